"""What the experiment does not show, written from what it holds."""

from collections.abc import Iterator, Mapping
from typing import Any

from medmtl.errors import some_of
from medmtl.reporting.cohort_section import count, in_no_fold, label_cards
from medmtl.reporting.collection_tables import by_collection
from medmtl.reporting.description import ExperimentDescription, organ_name
from medmtl.reporting.evidence import Evidence
from medmtl.reporting.numbers import plural

FEW_PATIENTS = 100


def limitations(evidence: Evidence, description: ExperimentDescription) -> list[str]:
    """Sentences, the gravest first."""
    return [
        *_labels(description),
        *_organs(evidence, description),
        *_cautions(description),
        *_near_duplicates(evidence),
        *_generality(evidence, description),
        *_missing(evidence, description),
        *_not_outlined(description),
        *_small_subgroups(evidence, description),
        *_method(description),
    ]


def _near_duplicates(evidence: Evidence) -> Iterator[str]:
    near = evidence.audit["near_duplicates"]
    if near:
        named = some_of(" and ".join(each["scans"]) for each in near)
        yield (
            f"{plural(len(near), 'pair')} of images in different folds look nearly the same, which "
            f"was not refused: {named}. Where they show one patient, the results are too good."
        )
    alike = evidence.audit["alike_pairs"]
    if alike:
        yield (
            f"Many images of this cohort look alike ({plural(alike, 'pair')} of different folds): "
            "a copy that was changed much may be among them."
        )


def _labels(description: ExperimentDescription) -> Iterator[str]:
    for card in label_cards(description):
        standard = card.label.reference_standard.rstrip(".")
        if "not pathology" in standard.lower():
            yield (
                f"The label “{card.name}” is not pathology ({standard}). An AUC here says how "
                "well that opinion is reproduced, and nothing about who has cancer."
            )
        else:
            yield (
                f"Agreement with the label “{card.name}” is agreement with its reference "
                f"standard ({standard}), and inherits its errors."
            )
    if description.segmentations:
        standard = description.manifest.card.lesion_mask_reference_standard.rstrip(".")
        origin = f" ({standard})" if standard else ", whose reference standard the card omits"
        yield (
            f"Outlines are compared with one reference{origin}; how far readers differ among "
            "themselves is not shown."
        )


def _organs(evidence: Evidence, description: ExperimentDescription) -> Iterator[str]:
    """What the organs are compared with, and on how many scans they were not drawn."""
    if not description.organs:
        return
    standard = description.manifest.card.organ_mask_reference_standard.rstrip(".")
    origin = f" ({standard})" if standard else ", whose reference standard the card omits"
    yield (
        f"Organs are compared with one reference{origin}; how far readers differ among themselves "
        "is not shown."
    )
    for task in description.organs:
        structures = evidence.summary["segmentation"].get(task.name, {})
        scans = evidence.summary["organs"][task.name]["scans"] if structures else 0
        drawn = {
            organ_name(name): max(arm["counts"]["scans"] for arm in results["arms"].values())
            for name, results in structures.items()
        }
        partly = [f"{name} on {count}" for name, count in drawn.items() if count < scans]
        if partly:
            yield (
                f"{task.name}: of {scans} scans, not every organ was drawn on all "
                f"({', '.join(partly)}). On the others nothing shows how well it was found, or "
                "whether something was taken for it."
            )


def _cautions(description: ExperimentDescription) -> Iterator[str]:
    for name, arm in description.arms.items():
        if arm.caution:
            yield f"“{description.title_of(name)}”: {arm.caution.rstrip('.')}."
    controls = [
        description.title_of(name) for name in description.arms if description.is_control(name)
    ]
    if controls:
        quoted = ", ".join(f"“{title}”" for title in controls)
        yield (
            f"As far as a control ({quoted}) does well, a model on the same input may owe its "
            "result to what the control sees, and not to the image."
        )


def _generality(evidence: Evidence, description: ExperimentDescription) -> Iterator[str]:
    included = count(description.manifest.included())
    card = description.manifest.card
    region = f" of the {card.body_region}" if card.body_region else ""
    few = ", which is few" if included.patients < FEW_PATIENTS else ""
    names = ", ".join(by_collection(description.manifest))
    origin = "One collection" if len(description.manifest.cards) < 2 else "Collections joined"
    yield (
        f"{origin} ({names}), {card.modality}{region}, {included.patients} patients"
        f"{few}. No external test set was used: none of this was seen on data of another origin."
    )
    if len(description.manifest.cards) > 1:
        yield (
            "Patients of all collections are in every number: where labels or organs were drawn "
            "in one collection only, its scanners and readers are all that was seen of them."
        )
    if description.looks_at_lesions:
        yield (
            "Every lesion's position was given to the models. Nothing here shows that they would "
            "find lesions by themselves, or leave healthy tissue alone."
        )
    skipped = in_no_fold(evidence, description)
    if skipped:
        yield (
            f"{plural(skipped, 'patient')} had nothing that a head could learn from, and had no "
            "part in training or test."
        )
    excluded = len(card.exclusions)
    if excluded:
        yield (
            f"{plural(excluded, 'case was', 'cases were')} excluded (section 2); the results do "
            "not hold for such cases."
        )


def _missing(evidence: Evidence, description: ExperimentDescription) -> Iterator[str]:
    for task, results in evidence.summary["tasks"].items():
        for name in description.in_order(results["arms"]):
            outputs = results["arms"][name]["outputs"].values()
            counts = max((output["counts"] for output in outputs), key=_left_out)
            if _left_out(counts):
                yield (
                    f"{task}, “{description.title_of(name)}”: {_left_out(counts)} of "
                    f"{counts['rows']} lesions are not evaluated ({counts['missing_target']} "
                    f"without a label, {counts['missing_prediction']} without a score)."
                )


def _not_outlined(description: ExperimentDescription) -> Iterator[str]:
    lesions = description.manifest.included().lesions
    missing = sum(lesion.mask is None for lesion in lesions)
    if description.segmentations and missing:
        yield (
            f"{missing} of {plural(len(lesions), 'lesion')} have no reference outline and no part "
            "in the scores of outlines."
        )


def _left_out(counts: Mapping[str, Any]) -> int:
    return int(counts["missing_target"] + counts["missing_prediction"])


def _small_subgroups(evidence: Evidence, description: ExperimentDescription) -> Iterator[str]:
    """Named once a task, by the arm whose subgroup is smallest."""
    for task, results in evidence.summary["tasks"].items():
        for name in description.subgroups:
            found = [
                output["subgroups"][name]
                for arm in results["arms"].values()
                for output in arm["outputs"].values()
                if "lesions" in output["subgroups"].get(name, {})
            ]
            small = [subgroup for subgroup in found if subgroup["underpowered"]]
            if small:
                least = min(small, key=lambda each: min(each["positives"], each["negatives"]))
                yield (
                    f"{task}, subgroup “{description.subgroup_title(name)}”: underpowered, with "
                    f"{least['positives']} positive and {least['negatives']} negative lesions."
                )
    for task, structures in evidence.summary["segmentation"].items():
        for results in structures.values():
            for name in description.subgroups:
                sizes = [
                    arm["subgroups"][name]["counts"][results["unit"]]
                    for arm in results["arms"].values()
                    if arm["subgroups"].get(name, {}).get("underpowered")
                ]
                if sizes:
                    yield (
                        f"{task}, subgroup “{description.subgroup_title(name)}”: underpowered, "
                        f"with {plural(min(sizes), results['unit'].removesuffix('s'))}."
                    )


def _method(description: ExperimentDescription) -> Iterator[str]:
    yield (
        "One split into folds and one training an arm and fold: the bootstrap intervals take the "
        "trained models as they are, and do not show how results would vary with other splits, "
        "seeds or training patients."
    )
    if len(description.arms) + len(description.baselines) > 2:
        yield (
            "Several arms were compared. Intervals are not widened for that"
            + ("; the p-values adjusted by Holm are." if description.classifications else ".")
        )
