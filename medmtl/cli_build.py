"""`medmtl manifest build`: a manifest of all CT scans of a folder."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from medmtl.errors import ManifestError

if TYPE_CHECKING:
    from medmtl.data.building.build import Built

SHOWN = 8


def build_manifest(
    folder: Annotated[Path, typer.Argument(help="Searched with its subfolders.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the manifest to write.")],
    name: Annotated[str | None, typer.Option(help="Of the collection; default: FOLDER's.")] = None,
    patient: Annotated[
        str | None,
        typer.Option(
            metavar="folder|file",
            help="Where headers do not say whose a scan is: the folder below FOLDER, or the file.",
        ),
    ] = None,
    patient_from: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Or its one group in the path, as '([^/_]+)_ct'."),
    ] = None,
    pseudonyms_already: Annotated[
        bool,
        typer.Option("--pseudonyms-already", help="Patients' names and PatientIDs stay as is."),
    ] = False,
    allow_named_paths: Annotated[
        bool,
        typer.Option("--allow-named-paths", help="Though paths tell who patients are."),
    ] = False,
    masks: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Organ masks beside images: '{stem}_seg.nii.gz'."),
    ] = None,
    structures: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE,...", help="What the masks' values are.")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Images that are not wanted, as '*/masks/*'."),
    ] = None,
    cache: Annotated[
        Path, typer.Option(help="Where `audit` finds what was hashed; may be deleted.")
    ] = Path(".medmtl_cache"),
    workers: Annotated[
        int | None, typer.Option(help="Scans read at a time; default: one a core.")
    ] = None,
) -> None:
    """Find every CT scan of a folder, hash what it shows, and write the manifest.

    Stopped at any moment, the same command goes on where it was.
    """
    if patient not in (None, "folder", "file"):
        raise ManifestError(f"--patient: got {patient!r}; allowed: folder, file")
    from medmtl.data.building.build import Options, build_from_folder
    from medmtl.data.building.owners import Ownership

    ownership = Ownership(
        by=cast(Literal["folder", "file"] | None, patient),
        pattern=patient_from,
        already=pseudonyms_already,
        named_paths=allow_named_paths,
    )
    options = Options(
        name=name,
        ownership=ownership,
        masks=masks,
        structures=parse_structures(structures),
        leave_out=leave_out or [],
        workers=workers,
        cache=cache,
    )
    print(describe_built(build_from_folder(folder, out, options), out))


def parse_structures(text: str | None) -> dict[str, int]:
    """Reads `heart=1,aorta=2`.

    Raises:
        ManifestError: Something else, or a name or a value twice.
    """
    found: dict[str, int] = {}
    for part in (text or "").split(",") if text else []:
        name, _, value = (each.strip() for each in part.partition("="))
        if not name or not value.isdecimal() or int(value) < 1:
            raise ManifestError(f"--structures: got {part!r}; write names and values, as heart=1")
        if name in found or int(value) in found.values():
            raise ManifestError(f"--structures: {part!r}: the name or the value stands there twice")
        found[name] = int(value)
    return found


def describe_built(built: "Built", out: Path) -> str:
    """Says what was built, what is not in it and why, and what is in it twice."""
    manifest = built.manifest
    patients = len({scan.patient_id for scan in manifest.scans})
    lines = [f"{manifest.card.name}: {patients} patients, {len(manifest.scans)} scans"]
    if built.left_out:
        reasons = Counter(each.reason for each in built.left_out)
        lines.append(f"left out: {len(built.left_out)}, see {out / 'left_out.csv'}")
        lines += [f"  {count} x {reason}" for reason, count in reasons.most_common(SHOWN)]
        lines += [f"  and {len(reasons) - SHOWN} other reasons"] if len(reasons) > SHOWN else []
    for twins in built.twins[:SHOWN]:
        of = "one patient" if twins.patients == 1 else f"{twins.patients} patients"
        lines.append(f"the same content, of {of}: {', '.join(twins.scan_ids)}")
    if len(built.twins) > SHOWN:
        lines.append(f"and {len(built.twins) - SHOWN} more groups of the same content")
    if any(twins.patients > 1 for twins in built.twins):
        lines.append(
            "one patient under two ids crosses every split: find out whose the scans are, and "
            "exclude the copies in card.yaml"
        )
    lines.append(f"contents: {out / 'contents.csv'}")
    lines.append(f"manifest: {out} (open every file once more: medmtl manifest check {out})")
    return "\n".join(lines)
