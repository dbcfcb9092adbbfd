"""Which CT series there are, and by which folder the manifest names each."""

import hashlib
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from medmtl.data.building.left_out import LeftOut
from medmtl.data.building.survey import FileFacts
from medmtl.data.building.walk import folder_of
from medmtl.data.dicom.choice import with_choice

Folders = dict[str, list[FileFacts]]


@dataclass(frozen=True, kw_only=True)
class FoundSeries:
    """A series that may be a CT volume; whether it is, reading it will tell.

    Attributes:
        uid: SeriesInstanceUID.
        folder: That holds all of its files, perhaps in subfolders.
        image: What the manifest calls it: the folder, with the series' label if the folder holds
            other CT series.
        files: What the reader will read: all files of the series below the folder.
    """

    uid: str
    folder: str
    image: str
    files: tuple[str, ...]


def find_series(
    facts: Sequence[FileFacts], spoiled: Mapping[str, str]
) -> tuple[list[FoundSeries], list[LeftOut]]:
    """Groups files into series, and finds the folder of each.

    Args:
        facts: Of all files of DICOM.
        spoiled: Folders in which the reader would stop, and why.

    Returns:
        Series of CT images; and those of other things, copies, and series in spoiled folders.
    """
    of_series: dict[str, dict[str, Folders]] = {}  # by UID, by patient, by folder
    for each in facts:
        of_patient = of_series.setdefault(each.series_uid, {}).setdefault(each.patient, {})
        of_patient.setdefault(folder_of(each.file), []).append(each)
    below = _ct_series_below(facts)
    spoiled_above = {up: why for folder, why in spoiled.items() for up in _upwards(folder)}
    found: dict[tuple[str, str], FoundSeries] = {}
    left_out: list[LeftOut] = []
    for uid, patients in of_series.items():
        for folders in patients.values():
            first, copies = _without_copies(folders)
            home = posixpath.commonpath(first) or "."
            if reason := _refusal(folders) or spoiled_above.get(home):
                left_out += [
                    LeftOut(path=_labelled(folder, uid), reason=reason, files=len(files))
                    for folder, files in folders.items()
                ]
                continue
            left_out += [_copy(folder, uid, folders[folder]) for folder in copies]
            image = home if len(below[home]) == 1 else _labelled(home, uid)
            files = _files_below(home, patients.values())
            found[uid, home] = FoundSeries(uid=uid, folder=home, image=image, files=files)
    return list(found.values()), left_out


def label_of(uid: str) -> str:
    """As `medmtl.data.dicom.series.Series.label`."""
    return hashlib.sha256(uid.encode()).hexdigest()[:8]


def _labelled(folder: str, uid: str) -> str:
    return with_choice(folder, label_of(uid))


def _copy(folder: str, uid: str, files: Sequence[FileFacts]) -> LeftOut:
    reason = "the same images (by their UIDs) lie in another folder, which is in the manifest"
    return LeftOut(path=_labelled(folder, uid), reason=reason, files=len(files))


def _refusal(folders: Folders) -> str | None:
    """What a series is that has no image of a CT volume."""
    refusals = [each.refusal for files in folders.values() for each in files]
    if None in refusals:
        return None
    reasons = Counter(refusal for refusal in refusals if refusal is not None)
    return max(reasons, key=lambda reason: (reasons[reason], reason))


def _without_copies(folders: Folders) -> tuple[list[str], list[str]]:
    """Sorts the folders of a series into those that make it up and copies of those.

    A copy holds no image that the others do not hold, by SOPInstanceUID.
    """
    instances = {name: {each.instance for each in files} for name, files in folders.items()}
    first: list[str] = []
    copies: list[str] = []
    known: set[str] = set()
    for name in sorted(folders, key=lambda name: (-len(instances[name]), name)):
        is_copy = "" not in instances[name] and instances[name] <= known
        (copies if is_copy else first).append(name)
        known |= instances[name]
    return first, copies


def _ct_series_below(facts: Iterable[FileFacts]) -> dict[str, set[str]]:
    """The CT series in each folder and its subfolders, as the reader would list them."""
    in_folder: dict[str, set[str]] = defaultdict(set)
    for each in facts:
        if each.refusal is None:
            in_folder[folder_of(each.file)].add(each.series_uid)
    below: dict[str, set[str]] = defaultdict(set)
    for folder, uids in in_folder.items():
        for up in _upwards(folder):
            below[up] |= uids
    return below


def _upwards(folder: str) -> Iterator[str]:
    """A folder and all that it lies in, to '.', the one that is searched."""
    while folder and folder != ".":
        yield folder
        folder = folder.rpartition("/")[0]
    yield "."


def _files_below(home: str, patients: Iterable[Folders]) -> tuple[str, ...]:
    inside = "" if home == "." else f"{home}/"
    return tuple(
        sorted(
            each.file
            for folders in patients
            for folder, files in folders.items()
            if f"{folder}/".startswith(inside)
            for each in files
        )
    )
