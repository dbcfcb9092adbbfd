"""Writes the report about one experiment: one file, no network, the same bytes every time."""

from pathlib import Path
from typing import Any

import jinja2

from medmtl.data.cases import CaseLoader
from medmtl.reporting.abstract import abstract
from medmtl.reporting.case_section import CaseGalleries
from medmtl.reporting.cohort_section import (
    checks,
    count,
    exclusion_table,
    in_no_fold,
    label_cards,
)
from medmtl.reporting.collection_tables import collection_table, organ_table
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import Evidence, contamination, read_evidence, unknown_weights
from medmtl.reporting.figure_section import draw_figures
from medmtl.reporting.fold_table import fold_table, size_table
from medmtl.reporting.limitations import limitations
from medmtl.reporting.provenance_section import cell_table, provenance_items
from medmtl.reporting.results_section import operating_points, results_by_task
from medmtl.run_folder import RunFolder, write_text


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
    galleries = CaseGalleries(
        run=run, evidence=evidence, description=description, loader=loader
    ).all()
    page = _templates().get_template("cohort.html")
    write_text(run.report, page.render(_content(evidence, description), galleries=galleries))
    return run.report


def _content(evidence: Evidence, description: ExperimentDescription) -> dict[str, Any]:
    return {
        "description": description,
        "card": description.manifest.card,
        "contaminations": [
            f"“{description.title_of(arm)}” is {contamination(evidence.audit, arm)}"
            for arm in description.arms
            if contamination(evidence.audit, arm)
        ],
        "unknown_weights": [
            f"What the weights that “{description.title_of(arm)}” begins with have seen is not "
            "known by us, so scans that are tested here may be among it; they were imported with "
            f"the words: “{note}”."
            for arm in description.arms
            for note in unknown_weights(evidence.audit, arm)
        ],
        "abstract": abstract(evidence, description),
        "labels": label_cards(description),
        "everyone": count(description.manifest),
        "included": count(description.manifest.included()),
        "fold_count": evidence.folds["fold"].nunique(),
        "in_no_fold": in_no_fold(evidence, description),
        "collections": collection_table(description),
        "organs_drawn": organ_table(description),
        "exclusions": exclusion_table(description.manifest),
        "folds": fold_table(evidence, description),
        "sizes": size_table(evidence, description),
        "checks": checks(evidence),
        "results": results_by_task(evidence, description),
        "figures": draw_figures(evidence, description),
        "operating_points": operating_points(evidence, description),
        "limitations": limitations(evidence, description),
        "provenance": provenance_items(evidence, description),
        "cells": cell_table(evidence, description),
    }


def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("medmtl.reporting", "templates"),
        autoescape=True,  # always: a rule by file ending would miss some
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
