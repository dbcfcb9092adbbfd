"""What is told of a folder: geometry and problems, no identifiers, in 80 columns."""

from io import StringIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from rich.console import Console

from medmtl.data.dicom.inspection import Inspection, inspect_folder
from medmtl.data.dicom.inspection_table import print_inspection
from medmtl.errors import ScanError
from tests.data.dicom.test_reader import CORONAL, OBLIQUE
from tests.data.dicom.writers import Edit, Phantom, image_of, save, write_series


def printed(inspection: Inspection, *, uids: bool = False) -> str:
    output = StringIO()
    print_inspection(inspection, Console(file=output, width=200), uids=uids)
    assert max(map(len, output.getvalue().splitlines())) <= 80
    assert "SECRET" not in output.getvalue()
    return " ".join(output.getvalue().split())


def set_elements(**values: object) -> Edit:
    def edit(k: int, image: Dataset) -> None:
        for keyword, value in values.items():
            setattr(image, keyword, value)

    return edit


def notes_of(folder: Path) -> str:
    (inspected,) = inspect_folder(folder, name="s").series
    assert inspected.problem is None
    return "; ".join(inspected.notes)


def test_a_sound_series_is_shown_with_its_geometry(tmp_path: Path) -> None:
    write_series(tmp_path, Phantom(turn=CORONAL))
    inspection = inspect_folder(tmp_path, name="s")
    (inspected,) = inspection.series
    assert (inspected.orientation, inspected.kernels, inspected.thickness_mm) == (
        "coronal", ("B30f",), (2.5,),
    )  # fmt: skip
    assert not inspected.notes and inspected.problem is None
    text = printed(inspection)
    assert f"{inspected.series.label} 4 CT coronal 6 12 x 10 x 6 0.9 x 1.1 x 2.5 2.5 B30f" in text
    assert "1.2.3.4" not in text
    assert "UID 1.2.3.4" in printed(inspection, uids=True)


def test_every_series_and_its_problem_is_listed(tmp_path: Path) -> None:
    write_series(
        tmp_path, Phantom(shape=(100, 80, 3), spacing_mm=(0.1, 0.1, 0.625), series_uid="1.2.1")
    )
    write_series(tmp_path, Phantom(series_uid="1.2.2", turn=OBLIQUE), skip=[2])
    write_series(
        tmp_path,
        Phantom(series_uid="1.2.3"),
        set_elements(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"),
    )
    (tmp_path / "broken.dcm").write_bytes(b"nothing")
    inspection = inspect_folder(tmp_path, name="s")
    assert [each.problem is None for each in inspection.series].count(True) == 1
    text = printed(inspection)
    assert "refused: 1 of 6 slices are missing" in text
    assert "not a CT image but Comprehensive SR Storage" in text
    assert (
        "not read: file 13 of 13 (by name): is not a DICOM file" in text or "not read: file" in text
    )


def test_many_broken_files_do_not_fill_the_screen(tmp_path: Path) -> None:
    write_series(tmp_path, Phantom())
    for number in range(40):
        (tmp_path / f"{number}.dcm").write_bytes(b"nothing")
    text = printed(inspect_folder(tmp_path, name="s"))
    assert text.count("is not a DICOM file") == 10 and "30 more files" in text


def test_a_tilt_is_told(tmp_path: Path) -> None:
    write_series(tmp_path, Phantom(tilt_degrees=-12))
    assert "tilted by 12.0 degrees" in notes_of(tmp_path)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"SliceThickness": "1"}, "gaps between slices: 1 mm thick, every 2.5 mm"),
        ({"LossyImageCompression": "01"}, "compressed with loss"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, "derived from other images"),
    ],
)
def test_what_is_worth_knowing_is_told(
    tmp_path: Path, values: dict[str, object], note: str
) -> None:
    write_series(tmp_path, Phantom(), set_elements(**values))
    assert note in notes_of(tmp_path)


def test_kernels_that_differ_within_a_series_are_told(tmp_path: Path) -> None:
    def sharpen(k: int, image: Dataset) -> None:
        image.ConvolutionKernel = "B70f" if k > 2 else "B30f"

    write_series(tmp_path, Phantom(), sharpen)
    assert "different kernels" in notes_of(tmp_path)


def test_padding_among_tissue_and_copies_are_told(tmp_path: Path) -> None:
    def pad(k: int, image: Dataset) -> None:
        image.add_new("PixelPaddingValue", "US", 1024)

    write_series(tmp_path / "a", Phantom(), pad)
    write_series(tmp_path / "b", Phantom(), pad)
    notes = notes_of(tmp_path)
    assert "6 images lie at the place of another" in notes
    assert "PixelPaddingValue lies among the HU of tissue" in notes


def test_a_kernel_that_looks_like_a_style_is_printed_as_it_is(tmp_path: Path) -> None:
    image = image_of(Phantom(shape=(8, 8, 1)), 0)
    image.ConvolutionKernel = "[red]I26f\\3"
    save(tmp_path / "a.dcm", image)
    assert "redI26f/3" in printed(inspect_folder(tmp_path, name="s"))


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="holds no DICOM images"):
        inspect_folder(tmp_path, name="s")
