"""Takes the identifiers out of a folder of CT series and NIfTI images.

Every file is looked at first, so that it is known where each goes and which are refused; then the
clean ones are made one by one. The same input and secret give the same bytes, so a run that was
stopped goes on where it was.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from medmtl.data.pattern import compile_patient_from
from medmtl.data.privacy import refusal
from medmtl.data.privacy.file_cleaning import Looked, Task, Written, look_at, write_clean
from medmtl.data.privacy.identity import Identity
from medmtl.data.privacy.out_folder import (
    Row,
    require_apart,
    require_ours,
    write_link,
    write_table,
)
from medmtl.data.privacy.secret import read_secret
from medmtl.data.privacy.side_by_side import side_by_side
from medmtl.errors import PrivacyError

WRITTEN, REFUSED, DROPPED = "written", "refused: ", "written without "
ANOTHER = Written(reason=refusal.DUPLICATE)


@dataclass(frozen=True, kw_only=True)
class Deidentified:
    """What a run did, in pseudonyms.

    Attributes:
        counts: Files by patient, study, series and outcome.
        written: How many files the output holds of this input.
        unchanged: How many of them were there already.
        notes: What to know before the output is given away.
    """

    counts: Counter[Row]
    written: int
    unchanged: int
    notes: list[str] = field(default_factory=list)


def deidentify(
    source: Path,
    out: Path,
    *,
    keep_derived: bool = False,
    link: Path | None = None,
    patient_from: str | None = None,
    workers: int = 1,
) -> Deidentified:
    """Writes what a folder holds without identifiers.

    Args:
        source: Searched with its subfolders.
        out: New, empty, or of an earlier run.
        keep_derived: Whether derived images, such as reformatted slices, are written too.
        link: A file outside `out` that says which pseudonym is whose; None for none.
        patient_from: A regular expression; its one group, found in the path of a NIfTI file, is
            the patient.
        workers: How many processes.

    Raises:
        PrivacyError: There is no secret, a folder cannot be used, `patient_from` is no expression
            of one group, or a process was killed.
        RunError: The disk is full or not writable.
    """
    require_apart(source, out, link)
    secret = read_secret(outside=out)
    require_ours(out)
    task = Task(
        source=source,
        out=out,
        secret=secret,
        keep_derived=keep_derived,
        patient_from=None
        if patient_from is None
        else compile_patient_from(patient_from, PrivacyError),
    )
    console = Console(stderr=True)
    files = _files(source)
    looks = side_by_side(partial(look_at, task=task), files, workers=workers)
    looked = list(track(looks, "look", total=len(files), console=console, transient=True))
    accepted = [each for each in looked if not each.reason]
    if link is not None:
        # Before the images: after them, a run that is stopped would leave some without.
        write_link(link, _identities(accepted))
    became = _write(accepted, task, workers, console)
    counts = _counted(looked, became)
    write_table(out, counts)
    return Deidentified(
        counts=counts,
        written=sum(not each.reason for each in became.values()),
        unchanged=sum(each.unchanged for each in became.values()),
        notes=_notes(accepted, keep_derived=keep_derived),
    )


def _files(source: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise PrivacyError(f"a folder of the input cannot be opened: {error.strerror}")

    found: list[Path] = []
    for folder, _, names in os.walk(source, onerror=refuse):
        found += [Path(folder) / name for name in names]
    return sorted(each for each in found if _may_be_opened(each))


def _may_be_opened(path: Path) -> bool:
    """False for a pipe or a device, which would be waited for without end."""
    try:
        return path.is_file()
    except OSError:
        return True  # opened later, refused then, and counted


def _write(
    accepted: Sequence[Looked], task: Task, workers: int, console: Console
) -> dict[Path, Written]:
    """Writes of files that are the same image the first, in the order of names, that is whole."""
    became: dict[Path, Written] = {}
    left, done = list(accepted), set[str]()
    while left:
        first = {each.target: each for each in reversed(left)}
        batch = [each for each in left if first[each.target] is each]
        writing = side_by_side(partial(write_clean, task=task), batch, workers=workers)
        shown = track(writing, "write", total=len(batch), console=console, transient=True)
        for each, written in zip(batch, shown, strict=True):
            became[each.path] = written
            done |= set() if written.reason else {each.target}
        left = [each for each in left if each.path not in became]
        became |= {each.path: ANOTHER for each in left if each.target in done}
        left = [each for each in left if each.path not in became]
    return became


def _identities(accepted: Sequence[Looked]) -> list[Identity]:
    return list(
        {each.whose.pseudonym: each.whose for each in accepted if each.whose is not None}.values()
    )


def _counted(looked: Sequence[Looked], became: Mapping[Path, Written]) -> Counter[Row]:
    counts: Counter[Row] = Counter()
    for each in looked:
        written = became.get(each.path, Written(reason=each.reason))
        outcome = REFUSED + written.reason if written.reason else WRITTEN
        counts[(*each.series, outcome)] += 1
        for keyword in written.dropped:
            counts[(*each.series, DROPPED + keyword)] += 1
    return counts


def _notes(accepted: Sequence[Looked], *, keep_derived: bool) -> list[str]:
    notes = []
    if nobodys := sum(each.whose is None for each in accepted):
        notes.append(
            f"{nobodys} NIfTI files do not say whose they are, so that a manifest of the output "
            "could not keep a patient's scans together: say it by --patient-from"
        )
    by_study = {each.series[1] for each in accepted if each.whose and each.whose.by_study}
    if by_study:
        notes.append(
            f"{len(by_study)} studies have no PatientID: each counts as a patient of its own, so "
            "that two studies of one patient can come on both sides of a split"
        )
    births: dict[str, set[str]] = {}
    for each in accepted:
        if each.birth:
            births.setdefault(each.series[0], set()).add(each.birth)
    if mixed := sorted(patient for patient, found in births.items() if len(found) > 1):
        notes.append(
            f"{len(mixed)} PatientIDs come with several dates of birth, so they may be two "
            f"patients each: {', '.join(mixed[:5])}"
        )
    if keep_derived:
        notes.append("--keep-derived: look at derived images, for text may be drawn in them")
    return notes
