"""A raw dataset of nnU-Net v2, of CT with one channel.

    Dataset123_Name/
      dataset.json      channel_names, labels, numTraining, file_ending
      imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, imagesTs/CASE_0000.nii.gz

Source:
    MIC-DKFZ/nnUNet, documentation/dataset_format.md; Isensee et al., Nat Methods 18 (2021) 203.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medmtl.data.adapters.labelled_folder import (
    A_CASE_A_PATIENT,
    DATASET,
    IMAGES,
    LABEL_STANDARD,
    LABELS,
    TEST_IMAGES,
    Case,
    check_names,
    files_of,
    name_structures,
    pair_sides,
    read_dataset_json,
    relative_root,
    write_cases,
)
from medmtl.data.adapters.public_counts import TRAINING, say_complete
from medmtl.data.faults import refuse_faults
from medmtl.data.manifest import DataCard, Manifest

ENDINGS = (".nii.gz", ".nii")
IGNORE = "ignore"


def import_nnunet(folder: Path, out: Path) -> Manifest:
    """Writes the manifest of a raw dataset of nnU-Net v2.

    Args:
        folder: Of the dataset.
        out: The manifest's folder.

    Raises:
        ManifestError: It is not CT of one channel in NIfTI; it has regions or an `ignore`
            label; or its files do not fit each other; all of it at once.
    """
    content = read_dataset_json(folder)
    faults = list(_refusals(content))
    refuse_faults(folder.resolve().name, faults)
    ending = str(content["file_ending"])
    structures = name_structures(content["labels"], faults)
    images = _images(folder, IMAGES, ending, faults)
    labels = _named(folder, LABELS, re.compile(r"(.+)" + re.escape(ending)), ending, faults)
    for name in sorted(images.keys() ^ labels.keys()):
        missing, part = (LABELS, images) if name in images else (IMAGES, labels)
        faults.append(f"{part[name]}: has no counterpart in {missing}; finish the copy")
    cases = [
        Case(name=name, image=images[name], labels=labels[name])
        for name in sorted(images.keys() & labels.keys())
    ]
    tests = _images(folder, TEST_IMAGES, ending, faults)
    cases += [Case(name=name, image=image) for name, image in sorted(tests.items())]
    check_names(cases, faults)
    if not cases and not faults:
        faults.append(f"{IMAGES}: holds no scan")
    refuse_faults(folder.resolve().name, faults)
    return write_cases(out, _card(folder, out, content, structures, cases), cases)


def _refusals(content: dict[str, Any]) -> Iterator[str]:
    if "channel_names" not in content and "modality" in content:
        yield (
            f"{DATASET}: is of nnU-Net v1 or of the Decathlon; use 'medmtl import decathlon', or "
            "convert it with nnUNetv2_convert_old_nnUNet_dataset"
        )
        return
    channels = content.get("channel_names")
    names = list(channels.values()) if isinstance(channels, dict) else [channels]
    if [str(name).casefold() for name in names] != ["ct"]:
        got = ", ".join(map(str, names))
        yield f"{DATASET}: channel_names: got {got}; this tool reads one channel, CT"
    ending = content.get("file_ending")
    if ending not in ENDINGS:
        yield f"{DATASET}: file_ending: got {ending!r}; allowed: {', '.join(ENDINGS)}"
    training = content.get("numTraining")
    if not isinstance(training, int) or isinstance(training, bool) or training < 0:
        yield f"{DATASET}: numTraining: got {training!r}; it is the number of training scans"
    if "dataset" in content:
        yield f"{DATASET}: dataset: lists files elsewhere; put them into {IMAGES} and {LABELS}"
    yield from _label_refusals(content.get("labels"))


def _label_refusals(labels: object) -> Iterator[str]:
    if not isinstance(labels, dict) or not labels:
        yield f"{DATASET}: labels: must give the value of each structure"
        return
    for name, value in labels.items():
        if isinstance(value, list):
            yield (
                f"{DATASET}: labels: {name!r} is a region, {value}, and regions overlap; give "
                "each value of the label maps a name of its own"
            )
        elif not isinstance(value, int) or isinstance(value, bool) or value < 0:
            yield f"{DATASET}: labels: {name!r}: got {value!r}; give the value in the label maps"
        elif name == IGNORE:
            yield (
                f"{DATASET}: labels: {IGNORE!r} marks voxels that nobody looked at, which a "
                "manifest cannot say of a part of a scan; leave these scans and the label out"
            )


def _images(folder: Path, part: str, ending: str, faults: list[str]) -> dict[str, str]:
    pattern = re.compile(r"(.+)_0000" + re.escape(ending))
    return _named(folder, part, pattern, f"_0000{ending}", faults)


def _named(
    folder: Path, part: str, pattern: re.Pattern[str], ending: str, faults: list[str]
) -> dict[str, str]:
    """The files of a part by case; each must be named as the layout says."""
    found = {}
    for name in files_of(folder, part):
        fits = pattern.fullmatch(name)
        if fits:
            found[fits[1]] = f"{part}/{name}"
        else:
            faults.append(f"{part}/{name}: is not named CASE{ending}; rename it, or take it away")
    return found


def _card(
    folder: Path,
    out: Path,
    content: dict[str, Any],
    structures: dict[str, int],
    cases: list[Case],
) -> DataCard:
    training = sum(case.labels is not None for case in cases)
    complete = say_complete({TRAINING: training}, {TRAINING: content["numTraining"]})
    said = f"{content['description']} " if content.get("description") else ""
    tests = f"Test scans without labels: {len(cases) - training}."
    return DataCard(
        name=folder.resolve().name,
        description=f"{said}{complete} {tests} {A_CASE_A_PATIENT}",
        data_root=relative_root(folder, out),
        licence=str(content.get("licence") or content.get("license") or "not stated"),
        provenance=str(content.get("reference") or f"not stated in {DATASET}"),
        structures=structures,
        left_right_pairs=pair_sides(structures),
        organ_mask_reference_standard=LABEL_STANDARD,
    )
