"""Commands that import public collections, each from its published layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from medmtl.errors import ManifestError

Out = Annotated[Path, typer.Option("--out", help="Folder of the manifest to write.")]
Tell = Callable[[object, Path], object]


def register(importing: typer.Typer, tell: Tell) -> None:
    """Adds the commands to `medmtl import`.

    Args:
        importing: The group of commands.
        tell: Checks and shows what was imported: a manifest, and its folder.
    """
    importing.command("decathlon")(_decathlon(tell))
    importing.command("nnunet")(_nnunet(tell))
    importing.command("lidc-idri")(_lidc_idri(tell))
    importing.command("luna16")(_luna16(tell))


def _decathlon(tell: Tell) -> Callable[..., None]:
    def import_task(
        folder: Annotated[
            Path, typer.Argument(help="TaskXX_Name, with dataset.json, imagesTr and labelsTr.")
        ],
        out: Out,
    ) -> None:
        """Import a CT task of the Medical Segmentation Decathlon."""
        from medmtl.data.adapters.decathlon import import_decathlon

        tell(import_decathlon(folder, out), out)

    return import_task


def _nnunet(tell: Tell) -> Callable[..., None]:
    def import_dataset(
        folder: Annotated[
            Path, typer.Argument(help="DatasetXXX_Name, with dataset.json, imagesTr and labelsTr.")
        ],
        out: Out,
    ) -> None:
        """Import a raw dataset of nnU-Net v2: CT, one channel, NIfTI."""
        from medmtl.data.adapters.nnunet import import_nnunet

        tell(import_nnunet(folder, out), out)

    return import_dataset


def _lidc_idri(tell: Tell) -> Callable[..., None]:
    def import_archive(
        folder: Annotated[
            Path, typer.Argument(help="Of the archive: DICOM series and the readers' XML files.")
        ],
        out: Out,
        exclude_indeterminate: Annotated[
            bool,
            typer.Option("--exclude-indeterminate", help="Leave out nodules of malignancy 3."),
        ] = False,
    ) -> None:
        """Import LIDC-IDRI: readings become nodules; masks are made below --out."""
        from medmtl.data.adapters.lidc_idri import import_lidc_idri

        manifest = import_lidc_idri(
            _require_folder(folder), out, exclude_indeterminate=exclude_indeterminate
        )
        tell(manifest, out)

    return import_archive


def _require_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ManifestError(f"{folder.name}: there is no such folder; give that of the collection")
    return folder


def _luna16(tell: Tell) -> Callable[..., None]:
    def import_challenge(
        folder: Annotated[
            Path, typer.Argument(help="Holds annotations.csv and subset0 to subset9.")
        ],
        out: Out,
        lidc: Annotated[
            Path | None,
            typer.Option(
                help="Whose scans these are: the manifest of LIDC-IDRI, or the metadata.csv of "
                "its download. Without it, each scan is taken for a patient."
            ),
        ] = None,
    ) -> None:
        """Import LUNA16; the scans are converted to NIfTI below --out."""
        from medmtl.data.adapters.luna16 import import_luna16

        tell(import_luna16(_require_folder(folder), out, lidc=lidc), out)

    return import_challenge
