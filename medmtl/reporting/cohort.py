"""Writes the report about one experiment: one file, no network, the same bytes every time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from medmtl.data.cases import CaseLoader
from medmtl.reporting.abstract import abstract
from medmtl.reporting.arm_styles import ArmStyle, arm_styles
from medmtl.reporting.case_section import CaseGalleries
from medmtl.reporting.classification_tables import ClassificationTables
from medmtl.reporting.cohort_section import (
    checks,
    count,
    exclusion_table,
    fold_table,
    label_cards,
)
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import Evidence, read_evidence
from medmtl.reporting.figures import ClassificationFigures, Figure
from medmtl.reporting.forest_figure import forest_figure
from medmtl.reporting.limitations import limitations
from medmtl.reporting.probability_tables import calibration_table, operating_point_table
from medmtl.reporting.provenance_section import cell_table, provenance_items
from medmtl.reporting.segmentation_figures import dice_figure
from medmtl.reporting.segmentation_tables import SegmentationTables
from medmtl.reporting.tables import Table
from medmtl.reporting.training_figure import training_figure
from medmtl.run_folder import RunFolder, write_text

TEMPLATES = "templates"


def write_cohort_report(
    *, run: RunFolder, description: ExperimentDescription, loader: CaseLoader
) -> Path:
    """Writes `report/index.html` of a finished run.

    Nothing in it comes from the clock or names a path, so the same run gives the same bytes.

    Args:
        run: Finished and evaluated.
        description: What the run folder does not say.
        loader: Of the included cases, for the pictures.

    Returns:
        Where the report is.

    Raises:
        RunError: A file of the run is missing or damaged, or the report cannot be written.
        LeakageError: The folds share a patient, a series or an image.
        ScanError: A scan or mask that shall be shown cannot be read.
    """
    evidence = read_evidence(run, description)
    sections = {
        "description": description,
        "card": description.manifest.card,
        "percent": evidence.percent,
        "abstract": abstract(evidence, description),
        "labels": label_cards(description),
        "everyone": count(description.manifest),
        "included": count(description.manifest.included()),
        "fold_count": evidence.folds["fold"].nunique(),
        "exclusions": exclusion_table(description.manifest),
        "folds": fold_table(evidence, description),
        "checks": checks(evidence),
        "results": _results(evidence, description),
        "figures": _figures(evidence, description),
        "galleries": CaseGalleries(
            run=run, evidence=evidence, description=description, loader=loader
        ).all(),
        "operating_points": _operating_points(evidence, description),
        "limitations": limitations(evidence, description),
        "provenance": provenance_items(evidence, description),
        "cells": cell_table(evidence, description),
    }
    write_text(run.report, _environment().get_template("cohort.html").render(sections))
    return run.report


@dataclass(frozen=True, kw_only=True)
class TaskResults:
    """The tables of one task, under one heading."""

    title: str
    explanation: str
    tables: Sequence[Table]


def _results(evidence: Evidence, description: ExperimentDescription) -> list[TaskResults]:
    found = []
    for task in description.classifications:
        results = evidence.summary["tasks"].get(task.name)
        if results is not None:
            tables = ClassificationTables(
                task=task, results=results, description=description, percent=evidence.percent
            ).all()
            calibration = calibration_table(task, evidence, description)
            standard = description.manifest.card.labels.get(task.label)
            found.append(
                TaskResults(
                    title=f"Classification: {task.name}",
                    explanation=""
                    if standard is None
                    else f"Label “{task.label}”; reference standard: {standard.reference_standard}",
                    tables=[*tables, *([calibration] if calibration else [])],
                )
            )
    for name, structure, results in _structures(evidence, description):
        standard_text = description.manifest.card.lesion_mask_reference_standard
        found.append(
            TaskResults(
                title=f"Segmentation: {name}",
                explanation=f"Structure “{structure}”"
                + (f"; reference standard: {standard_text}" if standard_text else ""),
                tables=SegmentationTables(
                    name=name, results=results, description=description, percent=evidence.percent
                ).all(),
            )
        )
    return found


def _structures(
    evidence: Evidence, description: ExperimentDescription
) -> list[tuple[str, str, dict]]:
    """What each structure is called, itself, and its part of the summary."""
    found = []
    for task in description.segmentations:
        structures = evidence.summary["segmentation"].get(task.name, {})
        for structure, results in structures.items():
            name = task.name if len(structures) == 1 else f"{task.name}, {structure}"
            found.append((name, structure, results))
    return found


def _figures(evidence: Evidence, description: ExperimentDescription) -> list[Figure]:
    figures = []
    for task in description.classifications:
        results = evidence.summary["tasks"].get(task.name)
        if results is not None:
            rows = evidence.out_of_fold[evidence.out_of_fold["task"] == task.name]
            main = description.main_arm(task.name)
            styles = arm_styles(description, results["arms"], main=main)
            figures += ClassificationFigures(
                task=task, results=results, rows=rows, styles=styles, main=main
            ).all()
            figures.append(forest_figure(task, results, styles))
    for task in description.segmentations:
        for structure, results in evidence.summary["segmentation"].get(task.name, {}).items():
            ...
    training = training_figure(evidence.cells, description)
    return [*figures, *([training] if training else [])]
