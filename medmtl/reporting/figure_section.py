"""All figures of the report, in the order of print."""

from medmtl.reporting.arm_styles import arm_styles
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import Evidence
from medmtl.reporting.figures import ClassificationFigures, Figure
from medmtl.reporting.forest_figure import forest_figure
from medmtl.reporting.organ_figure import organ_figure
from medmtl.reporting.results_section import (
    evaluated_classifications,
    evaluated_organs,
    evaluated_structures,
)
from medmtl.reporting.segmentation_figures import dice_figure
from medmtl.reporting.training_figure import training_figure


def draw_figures(evidence: Evidence, description: ExperimentDescription) -> list[Figure]:
    """Draws them: each classification, outline and organ task, the training."""
    figures: list[Figure] = []
    for task in evaluated_classifications(evidence, description):
        results = evidence.summary["tasks"][task.name]
        main = description.main_arm(task.name)
        styles = arm_styles(description, results["arms"], main=main)
        figures.append(forest_figure(task, results, styles))
        figures += ClassificationFigures(
            task=task,
            results=results,
            rows=evidence.out_of_fold[evidence.out_of_fold["task"] == task.name],
            styles=styles,
            main=main,
        ).all()
    for each in evaluated_structures(evidence, description):
        scores = evidence.segmentation
        of_structure = (scores["task"] == each.task) & (scores["structure"] == each.structure)
        styles = arm_styles(description, each.results["arms"], main=description.main_arm(each.task))
        figures.append(dice_figure(each.name, scores[of_structure], styles))
    for organs in evaluated_organs(evidence, description):
        present = evidence.summary["organs"][organs.name]["arms"]
        scores = evidence.segmentation[evidence.segmentation["task"] == organs.name]
        styles = arm_styles(description, present, main=description.main_arm(organs.name))
        figures.append(organ_figure(organs, scores, styles))
    training = training_figure(evidence.cells, description)
    return [*figures, training] if training else figures
