from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from medmtl.data.adapters.metaimage import read_metaimage
from medmtl.data.geometry import voxel_to_world
from medmtl.errors import ScanError

SHAPE = (6, 5, 4)
# A turn about an oblique axis, and a flip.
OBLIQUE = np.linalg.qr(np.array([[2.0, 1, 0.5], [-1, 2, 0.3], [0.2, -0.4, 2]]))[0]
FLIPPED = np.diag([-1.0, -1.0, 1.0])


def write(
    path: Path,
    *,
    kind: type[np.generic] = np.int16,
    direction: NDArray[np.float64] = OBLIQUE,
    compressed: bool = False,
) -> sitk.Image:
    hu = np.random.default_rng(3).integers(0, 100, SHAPE[::-1]).astype(kind)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-150.25, 30.5, -311.75))
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return sitk.ReadImage(str(path))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("direction", [np.eye(3), FLIPPED, OBLIQUE])
def test_voxels_lie_where_simpleitk_puts_them(
    tmp_path: Path, direction: NDArray[np.float64], compressed: bool
) -> None:
    image = write(tmp_path / "a.mhd", direction=direction, compressed=compressed)
    assert (tmp_path / ("a.zraw" if compressed else "a.raw")).is_file()
    volume = read_metaimage(tmp_path / "a.mhd", name="a.mhd")
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, sitk.GetArrayFromImage(image).T)
    for ijk in [(0, 0, 0), (5, 0, 0), (0, 4, 0), (0, 0, 3), (5, 4, 3)]:
        lps_mm = np.array(image.TransformIndexToPhysicalPoint(ijk))
        ras_mm = voxel_to_world(volume.affine, ijk)
        np.testing.assert_allclose(ras_mm, lps_mm * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint8, np.uint16, np.int32, np.uint32, np.float32, np.float64]
)
def test_voxels_of_each_kind_are_read(tmp_path: Path, kind: type[np.generic]) -> None:
    image = write(tmp_path / "a.mhd", kind=kind)
    volume = read_metaimage(tmp_path / "a.mhd", name="a.mhd")
    np.testing.assert_array_equal(volume.voxels, sitk.GetArrayFromImage(image).T)


def test_the_other_byte_order_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.mhd")
    before = read_metaimage(tmp_path / "a.mhd", name="a.mhd").voxels
    change(tmp_path, "BinaryDataByteOrderMSB", "True")
    raw = np.fromfile(tmp_path / "a.raw", "<i2")
    raw.astype(">i2").tofile(tmp_path / "a.raw")
    np.testing.assert_array_equal(read_metaimage(tmp_path / "a.mhd", name="a").voxels, before)


def change(folder: Path, key: str, value: str | None) -> None:
    lines = (folder / "a.mhd").read_text().splitlines()
    kept = [line for line in lines if line.split(" = ")[0] != key]
    added = [] if value is None else [f"{key} = {value}"]
    (folder / "a.mhd").write_text("\n".join([*kept[:-1], *added, kept[-1]]) + "\n")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NDims", "4", "NDims is 4; only 3 is read"),
        ("ElementNumberOfChannels", "3", "ElementNumberOfChannels is 3"),
        ("HeaderSize", "-1", "HeaderSize is -1"),
        ("BinaryData", "False", "BinaryData is False"),
        ("CompressedData", "maybe", "CompressedData is 'maybe'; allowed: True, False"),
        ("ElementType", "MET_SHORT_ARRAY", "ElementType is MET_SHORT_ARRAY; allowed: MET_CHAR"),
        ("DimSize", "6 5", "DimSize is '6 5'; it must be 3 numbers"),
        ("DimSize", "6 5 4.5", "must be three numbers of voxels"),
        ("DimSize", "6 5 3", "the voxels take 240 bytes, not 180"),
        ("DimSize", "60000 50000 40000", "claims 120000000000000 voxels"),
        ("ElementSpacing", "1 1 0", "it must be above 0"),
        ("ElementSpacing", "1 1 nan", "it must be 3 numbers"),
        ("ElementSpacing", None, "lacks ElementSpacing"),
        ("TransformMatrix", "1 0 0 0 1 0 0 1 1", "not three unit vectors at right angles"),
        ("Position", "0 0 0", "repeats a key"),
        ("ElementToIntensityFunctionSlope", "2", "ElementToIntensityFunctionSlope is 2"),
    ],
)
def test_what_is_not_read_exactly_is_refused(
    tmp_path: Path, key: str, value: str | None, message: str
) -> None:
    write(tmp_path / "a.mhd")
    change(tmp_path, key, value)
    with pytest.raises(ScanError) as caught:
        read_metaimage(tmp_path / "a.mhd", name="subset0/a.mhd")
    assert str(caught.value).startswith("subset0/a.mhd: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("file", ["LOCAL", "LIST", "../a.raw", "/etc/passwd", "..", "x\\a.raw"])
def test_voxels_must_be_one_file_beside_the_header(tmp_path: Path, file: str) -> None:
    write(tmp_path / "a.mhd")
    text = (tmp_path / "a.mhd").read_text()
    (tmp_path / "a.mhd").write_text(text.replace("= a.raw", f"= {file}"))
    with pytest.raises(ScanError, match="must name one file in the same folder"):
        read_metaimage(tmp_path / "a.mhd", name="a.mhd")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.mhd", compressed=True)
    whole = (tmp_path / "a.zraw").read_bytes()
    for content, message in [
        (whole[:-20], "truncated"), (b"x" + whole, "damaged"), (b"", "truncated"),
    ]:  # fmt: skip
        (tmp_path / "a.zraw").write_bytes(content)
        with pytest.raises(ScanError, match=message):
            read_metaimage(tmp_path / "a.mhd", name="a.mhd")
    change(tmp_path, "DimSize", "6 5 3")
    (tmp_path / "a.zraw").write_bytes(whole)
    with pytest.raises(ScanError, match="181 bytes of voxels, not 180"):
        read_metaimage(tmp_path / "a.mhd", name="a.mhd")
    (tmp_path / "a.zraw").unlink()
    with pytest.raises(ScanError, match="the file of its voxels cannot be opened"):
        read_metaimage(tmp_path / "a.mhd", name="a.mhd")
    (tmp_path / "a.mhd").write_bytes(b"\xff\xd8")
    with pytest.raises(ScanError, match="is no text"):
        read_metaimage(tmp_path / "a.mhd", name="a.mhd")


def test_what_cannot_be_hu_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.mhd", kind=np.float32)
    for value, message in [(np.nan, "NaN"), (1e6, "not Hounsfield units")]:
        np.full(SHAPE, value, np.float32).tofile(tmp_path / "a.raw")
        with pytest.raises(ScanError, match=message):
            read_metaimage(tmp_path / "a.mhd", name="a.mhd")
