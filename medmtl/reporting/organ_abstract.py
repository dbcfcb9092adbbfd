"""What the abstract says of an organ task: the mean over organs, its range, and differences."""

from collections.abc import Mapping
from typing import Any

from medmtl.data.tasks import OrganTask
from medmtl.reporting.description import ExperimentDescription, organ_name
from medmtl.reporting.evidence import Evidence
from medmtl.reporting.numbers import in_words, number, plural, reading


def organ_sentences(
    task: OrganTask, evidence: Evidence, description: ExperimentDescription
) -> list[str]:
    """How well the main arm found the organs, and how it compares.

    Args:
        task: One that was evaluated.
        evidence: Of the run.
        description: Of the experiment.

    Returns:
        Sentences; none where no arm learned the task.
    """
    means = evidence.summary["organs"][task.name]
    main = description.main_arm(task.name)
    if main is None or main not in means["arms"]:
        return []
    caution = description.caution_of(main)
    warning = f"; caution: {caution}" if caution else ""
    organs = plural(len(means["structures"]), "organ")
    first = (
        f"For {task.name} ({organs} on {plural(means['scans'], 'scan')}), "
        f"“{description.title_of(main)}” reached a mean Dice of "
        f"{in_words(means['arms'][main]['dice'])}{_range(task, evidence, main)}{warning}."
    )
    return [first, _comparison(means["differences"], description, main)]


def _range(task: OrganTask, evidence: Evidence, main: str) -> str:
    structures = evidence.summary["segmentation"][task.name]
    dice = {
        name: results["arms"][main]["dice"]["mean"]["estimate"]
        for name, results in structures.items()
        if main in results["arms"]
    }
    known = {name: value for name, value in dice.items() if value is not None}
    if len(known) < 2:
        return ""
    (worst, low), *_, (best, high) = sorted(known.items(), key=lambda item: (item[1], item[0]))
    return (
        f", by organ from {number(low)} ({organ_name(worst)}) to {number(high)} "
        f"({organ_name(best)})"
    )


def _comparison(
    differences: Mapping[str, Any], description: ExperimentDescription, main: str
) -> str:
    """The main arm against the reference, or each other arm where it is the reference itself."""
    if description.reference is None or not differences:
        return ""
    reference = f"“{description.title_of(description.reference)}”"
    if main in differences:
        return f"Against the reference {reference} it {_verdict(differences[main]['dice'])}."
    others = [
        f"“{description.title_of(name)}” {_verdict(differences[name]['dice'])}"
        for name in description.in_order(differences)
        if not description.is_control(name)
    ]
    return f"Against it, {'; '.join(others)}." if others else ""


def _verdict(difference: Mapping[str, Any]) -> str:
    said, amount = reading(difference), in_words(difference, signed=True)
    if said == "not estimable":
        return f"had a difference in mean Dice that is not estimable ({amount})"
    if said == "cannot tell":
        return f"differed in mean Dice by {amount}: we cannot tell which of the two is better"
    return f"had the {said} mean Dice, by {amount}, for these trained models"
