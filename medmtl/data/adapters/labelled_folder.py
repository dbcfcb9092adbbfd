"""What the Decathlon and nnU-Net share: dataset.json, imagesTr, labelsTr and imagesTs."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmtl.data.faults import is_safe_id
from medmtl.data.manifest import DataCard, Manifest, Scan
from medmtl.data.manifest_files import keep_exclusions, write_manifest
from medmtl.errors import ManifestError

DATASET = "dataset.json"
IMAGES, LABELS, TEST_IMAGES = "imagesTr", "labelsTr", "imagesTs"
A_CASE_A_PATIENT = (
    "The layout names cases, not patients: each case is taken for a patient of its own, so two "
    "scans of one patient would be taken for two patients."
)
LABEL_STANDARD = "the label maps of the collection; who drew them, and how, says its citation"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scan of such a folder; paths are relative to it.

    Attributes:
        name: The case's name there.
        image: The scan.
        labels: Its label map, None of a test scan.
    """

    name: str
    image: str
    labels: str | None = None


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """Reads the description that lies in the folder.

    Raises:
        ManifestError: It is missing, or not a JSON object.
    """
    try:
        content = json.loads((folder / DATASET).read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(
            f"{folder}: {DATASET} is missing; give the folder of one dataset, which holds "
            f"{DATASET}, {IMAGES} and {LABELS}"
        ) from None
    except OSError as error:
        raise ManifestError(f"{DATASET}: cannot be opened: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{DATASET}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ManifestError(f"{DATASET}: is not a JSON object; download it again")
    return content


def files_of(folder: Path, part: str) -> list[str]:
    """The names of the files in a part of a dataset, without those that begin with a dot.

    The Decathlon's archives were packed on a Mac, and hold a '._' beside every file.
    """
    try:
        return sorted(
            each.name
            for each in (folder / part).iterdir()
            if not each.name.startswith(".") and each.is_file()
        )
    except (FileNotFoundError, NotADirectoryError):
        return []


def name_structures(labels: Mapping[str, int], faults: list[str]) -> dict[str, int]:
    """Names structures in small letters and '_', without the background, which must be 0.

    Args:
        labels: The value in the label maps by the name in dataset.json.
        faults: Where it is noted what is wrong.
    """
    structures: dict[str, int] = {}
    for name, value in labels.items():
        short = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        if (value == 0) != (short == "background"):
            faults.append(f"{DATASET}: labels: {name!r} is {value}; only the background is 0")
        elif value in structures.values() or short in structures or not short:
            faults.append(f"{DATASET}: labels: {name!r} ({value}) has no name or value of its own")
        elif value:
            structures[short] = value
    if not structures and not faults:
        faults.append(f"{DATASET}: labels: names no structure")
    return structures


def pair_sides(structures: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs left and right structures that differ in this word only."""
    pairs = []
    for name in structures:
        words = name.split("_")
        twin = "_".join("right" if word == "left" else word for word in words)
        if "left" in words and twin in structures:
            pairs.append((name, twin))
    return pairs


def relative_root(folder: Path, out: Path) -> str:
    """The card's data_root: the folder of the images, seen from the manifest."""
    return Path(os.path.relpath(folder.resolve(), out.resolve())).as_posix()


def write_cases(out: Path, card: DataCard, cases: Sequence[Case]) -> Manifest:
    """Writes the manifest: on training scans every structure was drawn, on test scans none."""
    scans = [
        Scan(
            scan_id=case.name,
            patient_id=case.name,
            series_id="",
            image=case.image,
            organ_mask=case.labels,
            annotated=frozenset(card.structures if case.labels else ()),
            row=row,
        )
        for row, case in enumerate(cases, start=2)
    ]
    manifest = Manifest(folder=out.resolve(), card=card, scans=tuple(scans), lesions=())
    manifest = keep_exclusions(manifest)
    write_manifest(manifest)
    return manifest


def check_names(cases: Sequence[Case], faults: list[str]) -> None:
    """Notes cases whose names cannot be ids, or that have the name of another."""
    first: dict[str, Case] = {}
    for case in cases:
        if not is_safe_id(case.name):
            faults.append(
                f"{case.image}: its name is not safe as an id: use letters, digits, '.', '_', '-'"
            )
        owner = first.setdefault(case.name, case)
        if owner is not case:
            faults.append(f"{case.image}: {owner.image} has the same name; rename one of them")
