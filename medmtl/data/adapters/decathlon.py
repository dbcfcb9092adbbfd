"""A task of the Medical Segmentation Decathlon on CT, as it is downloaded.

    Task09_Spleen/
      dataset.json      modality, labels, the files of training and of test
      imagesTr/spleen_10.nii.gz, labelsTr/spleen_10.nii.gz, imagesTs/spleen_1.nii.gz

Source:
    medicaldecathlon.com; Simpson et al., arXiv 1902.09063; Antonelli et al., Nat Commun 13
    (2022) 4128.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
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
from medmtl.data.adapters.public_counts import (
    DECATHLON,
    DECATHLON_CITATION,
    DECATHLON_LICENCE,
    TEST,
    TRAINING,
    Published,
    say_complete,
)
from medmtl.data.adapters.table import without_ending
from medmtl.data.faults import refuse_faults
from medmtl.data.manifest import DataCard, Manifest
from medmtl.errors import ManifestError


def import_decathlon(folder: Path, out: Path) -> Manifest:
    """Writes the manifest of a task of the Medical Segmentation Decathlon.

    Scans that were not downloaded are counted in the card; what is only half there, or is not
    listed, is a fault.

    Args:
        folder: Of the task; its name tells which published counts hold.
        out: The manifest's folder.

    Raises:
        ManifestError: It is no task on CT, or its files and dataset.json do not fit; all of it
            at once.
    """
    content = read_dataset_json(folder)
    _require_ct(content)
    faults: list[str] = []
    structures = name_structures(_labels(content, faults), faults)
    listed = [*_training(content, faults), *_test(content, faults)]
    check_names(listed, faults)
    cases = list(_on_disk(listed, folder, faults))
    faults += _not_listed(listed, folder)
    if not cases and not faults:
        faults.append(f"{DATASET}: lists {len(listed)} scans, and none of them is there")
    refuse_faults(folder.resolve().name, faults)
    return write_cases(out, _card(folder, out, content, structures, listed, cases), cases)


def _require_ct(content: dict[str, Any]) -> None:
    modality = content.get("modality")
    names = list(modality.values()) if isinstance(modality, dict) else [modality]
    if names != ["CT"]:
        got = ", ".join(map(str, names))
        raise ManifestError(
            f"{DATASET}: modality is {got}; this tool reads CT only. The tasks on CT: "
            f"{', '.join(DECATHLON)}"
        )


def _labels(content: dict[str, Any], faults: list[str]) -> dict[str, int]:
    labels = content.get("labels")
    if not isinstance(labels, dict) or not all(str(value).isdecimal() for value in labels):
        faults.append(f"{DATASET}: labels: must name each value of the label maps")
        return {}
    names = [str(name) for name in labels.values()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.append(f"{DATASET}: labels: {name!r} is the name of two values")
    return {str(name): int(value) for value, name in labels.items()}


def _training(content: dict[str, Any], faults: list[str]) -> Iterator[Case]:
    for number, entry in enumerate(_list(content, "training", faults), start=1):
        where = f"{DATASET}: training {number}"
        entry = entry if isinstance(entry, dict) else {}
        image = _file(entry.get("image"), IMAGES, f"{where}: image", faults)
        labels = _file(entry.get("label"), LABELS, f"{where}: label", faults)
        if image and labels:
            yield Case(name=without_ending(image), image=image, labels=labels)


def _test(content: dict[str, Any], faults: list[str]) -> Iterator[Case]:
    for number, entry in enumerate(_list(content, "test", faults), start=1):
        image = _file(entry, TEST_IMAGES, f"{DATASET}: test {number}", faults)
        if image:
            yield Case(name=without_ending(image), image=image)


def _list(content: dict[str, Any], key: str, faults: list[str]) -> list[Any]:
    listed = content.get(key)
    if isinstance(listed, list):
        return listed
    faults.append(f"{DATASET}: {key}: must be a list of files")
    return []


def _file(text: object, part: str, where: str, faults: list[str]) -> str | None:
    """A listed path, './imagesTr/name.nii.gz', without the './'."""
    path = PurePosixPath(text) if isinstance(text, str) else PurePosixPath()
    fits = len(path.parts) == 2 and path.parts[0] == part and path.name != ".."
    if fits and path.name.endswith((".nii.gz", ".nii")):
        return str(path)
    faults.append(f"{where}: got {text!r}, which is not './{part}/NAME.nii.gz'")
    return None


def _on_disk(listed: list[Case], folder: Path, faults: list[str]) -> Iterator[Case]:
    there = {
        f"{part}/{name}"
        for part in (IMAGES, LABELS, TEST_IMAGES)
        for name in files_of(folder, part)
    }
    for case in listed:
        has_image, has_labels = case.image in there, case.labels in there
        if case.labels is None or has_image == has_labels:
            if has_image:
                yield case
            continue
        missing, present = (case.labels, case.image) if has_image else (case.image, case.labels)
        faults.append(f"{missing} is missing, but {present} is there; finish the download")


def _not_listed(listed: list[Case], folder: Path) -> Iterator[str]:
    known = {case.image for case in listed} | {case.labels for case in listed}
    for part in (IMAGES, LABELS, TEST_IMAGES):
        for name in files_of(folder, part):
            if f"{part}/{name}" not in known:
                yield f"{part}/{name}: is not listed in {DATASET}; take it away, or list it"


def _card(
    folder: Path,
    out: Path,
    content: dict[str, Any],
    structures: dict[str, int],
    listed: list[Case],
    cases: list[Case],
) -> DataCard:
    task = folder.resolve().name
    published = DECATHLON.get(task) or Published(
        counts={
            TRAINING: sum(case.labels is not None for case in listed),
            TEST: sum(case.labels is None for case in listed),
        },
        licence=str(content.get("licence") or DECATHLON_LICENCE),
        citation=str(content.get("reference") or DECATHLON_CITATION),
        body_region="",
    )
    got = {
        TRAINING: sum(case.labels is not None for case in cases),
        TEST: sum(case.labels is None for case in cases),
    }
    unknown = "" if task in DECATHLON else f" No published task is named {task!r}: as listed."
    return DataCard(
        name=f"Decathlon {task}",
        description=f"{say_complete(got, published.counts)}{unknown} {A_CASE_A_PATIENT} "
        "Test scans come without labels.",
        body_region=published.body_region,
        data_root=relative_root(folder, out),
        licence=published.licence,
        provenance=published.citation,
        structures=structures,
        left_right_pairs=pair_sides(structures),
        organ_mask_reference_standard=LABEL_STANDARD,
    )
