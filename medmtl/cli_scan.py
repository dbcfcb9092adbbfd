"""Commands about DICOM: look at the series of a folder, convert one to NIfTI."""

from pathlib import Path
from typing import Annotated

import typer

scan = typer.Typer(help="Look at CT series in DICOM, and convert them.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(metavar="PATH", help="A folder of DICOM files, or one.")]


@scan.command("inspect")
def inspect(
    path: Source,
    uids: Annotated[
        bool, typer.Option("--uids", help="Print SeriesInstanceUIDs; they identify patients.")
    ] = False,
) -> None:
    """List the series, their geometry and what is wrong; no pixels, no identifiers."""
    from rich.console import Console

    from medmtl.data.dicom.inspection import inspect_folder
    from medmtl.data.dicom.inspection_table import print_inspection

    print_inspection(inspect_folder(path, name=_name(path)), Console(), uids=uids)


@scan.command("convert")
def convert(
    path: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT.nii.gz", help="Replaced if it is there.")],
    series: Annotated[
        str | None, typer.Option(help="UID, or label as `inspect` lists it; default: the only one.")
    ] = None,
    untilt: Annotated[
        bool, typer.Option("--untilt", help="Resample a tilted gantry onto axes at right angles.")
    ] = False,
    even: Annotated[
        bool, typer.Option("--even", help="Interpolate missing and uneven slices.")
    ] = False,
) -> None:
    """Write a CT series as NIfTI in HU, voxels as they are; refuses what is not one volume."""
    from medmtl.data.writing import require_nifti_name, write_image

    require_nifti_name(out)
    from medmtl.data.dicom.reader import read_series
    from medmtl.data.dicom.tilt import untilt as make_upright

    volume = read_series(
        path,
        name=_name(path),
        series=series,
        uneven="resample" if even else "refuse",
        tell=lambda what: print(f"caution: {what}"),
    )
    volume = make_upright(volume) if untilt else volume
    write_image(out, volume)
    shape = " x ".join(str(each) for each in volume.voxels.shape)
    spacing = " x ".join(f"{each:.3g}" for each in volume.grid.spacing_mm)
    print(f"image:   {out}\n         {shape} voxels of {spacing} mm")


def _name(path: Path) -> str:
    return path.name or path.resolve().name
