"""The main results: every table of every task, a heading a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medmtl.data.tasks import ClassificationTask, OrganTask
from medmtl.reporting.classification_tables import ClassificationTables
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import Evidence
from medmtl.reporting.organ_tables import OrganTables
from medmtl.reporting.probability_tables import calibration_table, operating_point_table
from medmtl.reporting.segmentation_tables import SegmentationTables
from medmtl.reporting.tables import Table


@dataclass(frozen=True, kw_only=True)
class TaskResults:
    """The tables of one task.

    Attributes:
        title: The heading.
        explanation: What the numbers are measured against.
        tables: In the order of print.
    """

    title: str
    explanation: str
    tables: Sequence[Table]


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One outlined structure of the summary.

    Attributes:
        name: The task, and the structure where a task has several.
        task: Of the segmentation.
        structure: What is outlined.
        results: Its part of the summary.
    """

    name: str
    task: str
    structure: str
    results: Mapping[str, Any]


def evaluated_classifications(
    evidence: Evidence, description: ExperimentDescription
) -> list[ClassificationTask]:
    """The classifications that the summary holds."""
    return [task for task in description.classifications if task.name in evidence.summary["tasks"]]


def evaluated_structures(evidence: Evidence, description: ExperimentDescription) -> list[Structure]:
    """The structures that the summary holds."""
    found = []
    for task in description.segmentations:
        structures = evidence.summary["segmentation"].get(task.name, {})
        for structure, results in structures.items():
            name = task.name if len(structures) == 1 else f"{task.name}, {structure}"
            found.append(Structure(name=name, task=task.name, structure=structure, results=results))
    return found


def evaluated_organs(evidence: Evidence, description: ExperimentDescription) -> list[OrganTask]:
    """The organ tasks that the summary holds."""
    return [task for task in description.organs if task.name in evidence.summary["organs"]]


def results_by_task(evidence: Evidence, description: ExperimentDescription) -> list[TaskResults]:
    """The tables of every task that was evaluated."""
    classifications = [
        _classification(task, evidence, description)
        for task in evaluated_classifications(evidence, description)
    ]
    standard = description.manifest.card.lesion_mask_reference_standard
    segmentations = [
        TaskResults(
            title=f"Segmentation: {each.name}",
            explanation=_measured_against(f"structure “{each.structure}”", standard),
            tables=SegmentationTables(
                name=each.name,
                results=each.results,
                description=description,
                percent=evidence.percent,
            ).all(),
        )
        for each in evaluated_structures(evidence, description)
    ]
    organs = [
        _organs(task, evidence, description) for task in evaluated_organs(evidence, description)
    ]
    return [*classifications, *segmentations, *organs]


def operating_points(evidence: Evidence, description: ExperimentDescription) -> list[Table]:
    """A table a classification that has thresholds."""
    tables = [
        operating_point_table(task, evidence, description)
        for task in evaluated_classifications(evidence, description)
    ]
    return [table for table in tables if table is not None]


def _classification(
    task: ClassificationTask, evidence: Evidence, description: ExperimentDescription
) -> TaskResults:
    tables = ClassificationTables(
        task=task,
        results=evidence.summary["tasks"][task.name],
        description=description,
        percent=evidence.percent,
    ).all()
    calibration = calibration_table(task, evidence, description)
    label = description.manifest.card.labels.get(task.label)
    standard = "" if label is None else label.reference_standard
    return TaskResults(
        title=f"Classification: {task.name}",
        explanation=_measured_against(f"label “{task.label}”", standard),
        tables=[*tables, *([calibration] if calibration else [])],
    )


def _organs(task: OrganTask, evidence: Evidence, description: ExperimentDescription) -> TaskResults:
    standard = description.manifest.card.organ_mask_reference_standard
    return TaskResults(
        title=f"Organs: {task.name}",
        explanation=_measured_against("organs as they were drawn", standard),
        tables=OrganTables(
            task=task,
            summary=evidence.summary,
            description=description,
            percent=evidence.percent,
        ).all(),
    )


def _measured_against(what: str, standard: str) -> str:
    if not standard:
        return f"Measured against the {what}, whose reference standard the data card omits."
    return f"Measured against the {what}: {standard.rstrip('.')}."
