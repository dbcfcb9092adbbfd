"""The abstract: a few sentences made from the numbers, none of which says too much."""

from collections.abc import Mapping
from typing import Any

from medmtl.data.tasks import ClassificationTask, SegmentationTask
from medmtl.reporting.cohort_section import count, in_no_fold, label_cards
from medmtl.reporting.collection_tables import by_collection
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import Evidence
from medmtl.reporting.numbers import (
    Interval,
    holds_after_training_again,
    in_words,
    number,
    plural,
    reading,
)
from medmtl.reporting.organ_abstract import organ_sentences
from medmtl.reporting.results_section import evaluated_organs


def abstract(evidence: Evidence, description: ExperimentDescription) -> list[str]:
    """What was done, what the reference is, what was found, and what follows from it.

    Of several tasks of a kind the first is told; the tables hold all.

    Args:
        evidence: Of the run.
        description: Of the experiment.

    Returns:
        Sentences.
    """
    sentences = [_design(evidence, description), _reference_standard(description)]
    evaluated = [
        task for task in description.classifications if task.name in evidence.summary["tasks"]
    ]
    if evaluated:
        sentences += _classification(evidence, description, evaluated[0])
    outlined = [
        task for task in description.segmentations if task.name in evidence.summary["segmentation"]
    ]
    if outlined:
        sentences.append(_segmentation(evidence, description, outlined[0]))
    found = evaluated_organs(evidence, description)
    if found:
        sentences += organ_sentences(found[0], evidence, description)
    others = len(evaluated[1:]) + len(outlined[1:]) + len(found[1:])
    more = f" Section 3 holds {plural(others, 'further task')}." if others else ""
    sentences.append(
        "No external test set was used, so how these numbers carry over to other scanners, "
        f"hospitals or readers is not known.{more}"
    )
    return [sentence for sentence in sentences if sentence]


def _design(evidence: Evidence, description: ExperimentDescription) -> str:
    folds = evidence.folds["fold"].nunique()
    compared = plural(len(description.arms), "trained arm")
    if description.baselines:
        compared += f" and {plural(len(description.baselines), 'baseline')}"
    excluded = len(description.manifest.card.exclusions)
    left_out = f"; {plural(excluded, 'case was', 'cases were')} excluded" if excluded else ""
    skipped = in_no_fold(evidence, description)
    if skipped:
        left_out += f"; {plural(skipped, 'patient')} had nothing to learn from and took no part"
    return (
        f"In {_cohort(description)} we compared {compared} by "
        f"{folds}-fold cross-validation split by patient{left_out}."
    )


def _cohort(description: ExperimentDescription) -> str:
    """How many of whom, of which collection; of several, how many each brought."""
    manifest = description.manifest.included()
    parts = by_collection(manifest)
    everyone = count(manifest)
    size = f"{plural(everyone.patients, 'patient')} ({plural(everyone.scans, 'scan')}"
    if description.looks_at_lesions:
        size += f", {plural(everyone.lesions, 'lesion')}"
        if everyone.patients_without_lesion:
            size += f"; {plural(everyone.patients_without_lesion, 'patient')} without a lesion"
    named = [
        f"“{name}”" + (f" ({count(part).text})" if len(parts) > 1 else "")
        for name, part in parts.items()
    ]
    return f"{size}) of the {'collections' if named[1:] else 'collection'} {' and '.join(named)}"


def _reference_standard(description: ExperimentDescription) -> str:
    standards = [
        f"of the label “{card.name}”: {card.label.reference_standard.rstrip('.')}"
        for card in label_cards(description)
    ]
    card = description.manifest.card
    if description.segmentations and card.lesion_mask_reference_standard:
        standard = card.lesion_mask_reference_standard.rstrip(".")
        standards.append(f"of the outlines: {standard}")
    if description.organs and card.organ_mask_reference_standard:
        standards.append(f"of the organs: {card.organ_mask_reference_standard.rstrip('.')}")
    return f"Reference standard {'; '.join(standards)}." if standards else ""


def _classification(
    evidence: Evidence, description: ExperimentDescription, task: ClassificationTask
) -> list[str]:
    results = evidence.summary["tasks"][task.name]
    main = description.main_arm(task.name)
    if main is None or main not in results["arms"]:
        return []
    auc = _headline(results["arms"][main])
    several = ", the mean over classes," if results["kind"] == "multiclass" else ""
    caution = description.caution_of(main)
    warning = f"; caution: {caution}" if caution else ""
    first = (
        f"For {task.name}, “{description.title_of(main)}” reached a mean of fold AUCs{several} of "
        f"{in_words(auc)}{warning}"
    )
    return [
        f"{first}{_control(results, description)}.",
        _comparison(results["differences"], description, main),
    ]


def _control(results: Mapping[str, Any], description: ExperimentDescription) -> str:
    controls = [
        f"; the control “{description.title_of(name)}” reached "
        f"{in_words(_headline(results['arms'][name]))}"
        for name in description.in_order(results["arms"])
        if description.is_control(name)
    ]
    return "".join(controls)


def _comparison(
    differences: Mapping[str, Any], description: ExperimentDescription, main: str
) -> str:
    """The main arm against the reference, or each other arm against it where it is that itself."""
    if description.reference is None or not differences:
        return "No arm was named as the reference, so no difference was tested."
    if main in differences:
        reference = description.title_of(description.reference)
        return f"Against the reference “{reference}” it {_verdict(differences[main])}."
    others = [
        name for name in description.in_order(differences) if not description.is_control(name)
    ]
    if not others:
        return f"“{description.title_of(main)}” is the reference, and only controls were compared."
    best = max(others, key=lambda name: _estimate_or_lowest(_difference(differences[name])))
    ranked = f"the strongest of the {len(others)} others" if len(others) > 1 else "the other"
    return (
        f"“{description.title_of(main)}” is the reference itself; {ranked}, "
        f"“{description.title_of(best)}”, {_verdict(differences[best])}."
    )


def _headline(arm: Mapping[str, Any]) -> Interval | None:
    """The mean of folds of the only class, or of the classes' mean."""
    if arm["macro"] is not None:
        return arm["macro"]["mean_of_folds"]
    (output,) = arm["outputs"].values()
    return output["mean_of_folds"]


def _difference(arm: Mapping[str, Any]) -> Interval | None:
    if len(arm["outputs"]) > 1:
        return arm["macro"]
    (output,) = arm["outputs"].values()
    return output["mean_of_folds"]


def _estimate_or_lowest(difference: Interval | None) -> float:
    if difference is None or difference["estimate"] is None:
        return float("-inf")
    return float(difference["estimate"])


def _verdict(arm: Mapping[str, Any]) -> str:
    difference = _difference(arm)
    said, amount = reading(difference), in_words(difference, signed=True)
    if difference is None or said == "not estimable":
        return f"had a difference in AUC that is not estimable ({amount})"
    if said == "cannot tell":
        return f"differed in AUC by {amount}: we cannot tell which of the two is better"
    return f"had the {said} AUC, by {amount}{_after_training_again(arm, difference)}"


def _after_training_again(arm: Mapping[str, Any], difference: Interval) -> str:
    if len(arm["outputs"]) > 1:
        return ""
    (output,) = arm["outputs"].values()
    if holds_after_training_again(difference, output["corrected_t_test"]["difference"]):
        return ""
    return (
        ", for these trained models; the t-test over folds, which allows for training them "
        "again, cannot tell"
    )


def _segmentation(
    evidence: Evidence, description: ExperimentDescription, task: SegmentationTask
) -> str:
    structures = evidence.summary["segmentation"][task.name]
    structure, results = next(iter(structures.items()))
    main = description.main_arm(task.name)
    if main is None or main not in results["arms"]:
        return ""
    scores = results["arms"][main]
    counts, dice = scores["counts"], scores["dice"]
    spread = ""
    if dice["q1"] is not None:
        low, high = number(dice["q1"]), number(dice["q3"])
        spread = f", first to third quartile {low} to {high},"
    return (
        f"For the outline of the {structure}, “{description.title_of(main)}” reached a mean Dice "
        f"of {in_words(dice['mean'])}{spread} over {plural(dice['n'], 'lesion')}; "
        f"{counts['missed']} were missed."
    )
