"""Commands about data: import a collection, look at a manifest, make the synthetic cohort."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medmtl.cli_public import register
from medmtl.errors import ManifestError, MedmtlError

importing = typer.Typer(help="Make a manifest from a collection.", no_args_is_help=True)
manifests = typer.Typer(help="Look at a manifest.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", help="Folder of the manifest to write.")]


@importing.command("lidc-nodules")
def import_lidc(
    folder: Annotated[Path, typer.Argument(help="Holds nodules.csv, images/ and masks/.")],
    out: Out,
) -> None:
    """Import nodules cut from LIDC-IDRI."""
    from medmtl.data.adapters.lidc_nodules import import_lidc_nodules

    _tell_imported(import_lidc_nodules(folder, out), out)


@importing.command("openkbp")
def import_openkbp_cases(
    folder: Annotated[Path, typer.Argument(help="Holds cases.csv and the NIfTI files.")],
    out: Out,
) -> None:
    """Import head-and-neck CT of OpenKBP with the organs that were contoured."""
    from medmtl.data.adapters.openkbp import import_openkbp

    _tell_imported(import_openkbp(folder, out), out)


@importing.command("folder")
def import_own(
    table: Annotated[Path, typer.Argument(help="CSV: patient_id, image, and what you have.")],
    out: Out,
    card: Annotated[
        Path | None, typer.Option(help="YAML: what the labels mean. A template is made if none.")
    ] = None,
) -> None:
    """Import your own CSV table and NIfTI files."""
    from medmtl.data.adapters.folder import import_folder

    _tell_imported(import_folder(table, out, card=card), out)


@manifests.command("check")
def check(manifest: Annotated[Path, typer.Argument(help="Folder of the manifest.")]) -> None:
    """Open every file and list all faults at once."""
    from medmtl.data.manifest_check import check_manifest
    from medmtl.data.manifest_files import read_manifest

    read = read_manifest(manifest)
    faults = check_manifest(read)
    for fault in faults:
        print(fault)
    if faults:
        raise MedmtlError(f"{read.card.name}: {len(faults)} faults; mend the tables, or exclude")
    print(f"{_size(read)}\nno fault found")


@manifests.command("describe")
def describe(
    manifest: Annotated[list[Path], typer.Argument(help="Folders of one or more manifests.")],
    picture: Annotated[
        Path | None, typer.Option(help="Where to draw it, .png or .svg; default: no picture.")
    ] = None,
) -> None:
    """Count labels, their overlap and their relation: what decides whether sharing can help."""
    from medmtl.data.description.describe import describe_manifests
    from medmtl.data.description.picture import picture_kind, write_picture
    from medmtl.data.description.text import render_text
    from medmtl.data.manifest_files import read_manifest

    if picture is not None:
        picture_kind(picture)  # a name that cannot be drawn to is told before the work
    description = describe_manifests([read_manifest(path) for path in manifest])
    print(render_text(description), end="")
    if picture is not None:
        write_picture(description, picture)
        print(f"picture: {picture}")


def audit(
    manifest: Annotated[list[Path], typer.Argument(help="Folders of one or more manifests.")],
    folds: Annotated[
        Path | None, typer.Option(help="CSV: patient_id, fold. Default: patients are kept apart.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint that must not have seen any of the scans.")
    ] = None,
    cache: Annotated[
        Path, typer.Option(help="Where hashes are remembered; may be deleted.")
    ] = Path(".medmtl_cache"),
    workers: Annotated[int, typer.Option(min=1, help="Scans hashed at a time.")] = 2,
) -> None:
    """Refuse patients, series and images on two sides of a split, or seen by a checkpoint."""
    from medmtl.build.audit import AuditPlan
    from medmtl.build.audit import audit as audit_all

    plan = AuditPlan(manifests=manifest, folds=folds, weights=weights, cache=cache, workers=workers)
    for line in audit_all(plan):
        print(line)


def phantom(
    patients: Annotated[int, typer.Option(help="How many, one scan each.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    missing: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=SHARE of scans that come without: classes, masks, organs, everything, or "
            "one organ such as liver. May be given several times."
        ),
    ] = None,
    images: Annotated[
        Literal["nifti", "dicom", "half", "both"],
        typer.Option(help="What scans are read from; half: every other one is a DICOM series."),
    ] = "nifti",
    workers: Annotated[int, typer.Option(help="Scans made at a time.")] = 2,
) -> None:
    """Make a synthetic chest-CT cohort with organs and nodules; needs no data."""
    from medmtl.data.phantom.cohort import make_cohort, parse_missing
    from medmtl.data.phantom.description import describe_cohort

    manifest = make_cohort(
        out,
        patients=patients,
        seed=seed,
        missing=parse_missing(missing or []),
        images=images,
        workers=workers,
    )
    print(describe_cohort(manifest))


def _tell_imported(manifest: object, out: Path) -> None:
    from medmtl.data.manifest import Manifest
    from medmtl.data.manifest_check import require_sound

    assert isinstance(manifest, Manifest)
    try:
        require_sound(manifest)
    except ManifestError as error:
        raise ManifestError(
            f"{error}\nthe manifest was written to {out}, but must be mended before it is used"
        ) from None
    print(_size(manifest))
    if manifest.card.description:
        print(f"  {manifest.card.description}")
    print(f"manifest: {out}")


def _size(manifest: object) -> str:
    from medmtl.data.manifest import Manifest

    assert isinstance(manifest, Manifest)
    patients = len({scan.patient_id for scan in manifest.scans})
    lines = [
        f"{manifest.card.name}: {patients} patients, {len(manifest.scans)} scans, "
        f"{len(manifest.lesions)} lesions"
    ]
    lines += [f"  excluded {each.id}: {each.reason}" for each in manifest.card.exclusions]
    return "\n".join(lines)


register(importing, _tell_imported)
