import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.building.build import Options, build_from_folder
from medmtl.data.privacy.deidentify import deidentify
from medmtl.data.privacy.secret import make_secret
from medmtl.errors import PrivacyError
from tests.data.privacy.planting import found_in

AFFINE = np.array([[-0.7, 0, 0, 90], [0, 0.7, 0.2, -80], [0, 0, 2.5, 3], [0, 0, 0, 1]])


@pytest.fixture(autouse=True)
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(tmp_path / "kept" / "secret"))
    make_secret()


def planted(dtype: type = np.int16) -> nib.Nifti1Image:
    voxels = np.arange(60).reshape(3, 4, 5).astype(dtype)
    image = nib.Nifti1Image(voxels, AFFINE)
    header = image.header
    for field in ("data_type", "db_name", "descrip", "aux_file", "intent_name"):
        header[field] = b"SECRET" + field.encode()[:3]
    header["session_error"], header["extents"] = 0x4553, 0x52434553
    header["intent_p1"], header["toffset"] = np.frombuffer(b"SECRSECR", "<f4")
    header.extensions.append(nib.nifti1.Nifti1Extension(6, b"SECRET history"))
    return image


def test_scans_of_one_patient_stay_together_where_their_paths_say_whose_they_are(
    tmp_path: Path,
) -> None:
    for name in ("Doe_1", "Doe_2", "Roe_1", "nobody"):
        path = tmp_path / "in" / f"{name}.nii"
        path.parent.mkdir(exist_ok=True)
        nib.save(
            nib.Nifti1Image(np.arange(-400, 200, dtype=np.int16).reshape(6, 10, 10), AFFINE), path
        )
    link = tmp_path / "kept" / "link.csv"
    done = deidentify(tmp_path / "in", tmp_path / "out", link=link, patient_from=r"^([A-Z][a-z]+)_")
    assert done.written == 3
    patients = sorted(len(list(each.iterdir())) for each in (tmp_path / "out/nifti").iterdir())
    assert patients == [1, 2]
    assert "Doe" in link.read_text() and "Roe" in link.read_text()
    built = build_from_folder(tmp_path / "out", tmp_path / "manifest", Options(workers=1))
    assert len({scan.patient_id for scan in built.manifest.scans}) == 2
    assert done.notes == []


def test_scans_of_nobody_are_noted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    nib.save(planted(), tmp_path / "in" / "scan.nii")
    (note,) = deidentify(tmp_path / "in", tmp_path / "out").notes
    assert "1 NIfTI files do not say whose they are" in note
    with pytest.raises(PrivacyError, match="0 groups"):
        deidentify(tmp_path / "in", tmp_path / "out", patient_from="scan")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_texts_of_the_header_are_gone_and_voxels_stay(
    tmp_path: Path, suffix: str, dtype: type
) -> None:
    source = tmp_path / "in" / "SECRET" / f"SECRET{suffix}"
    source.parent.mkdir(parents=True)
    content = planted(dtype).to_bytes() + b"SECRET trails"
    if suffix == ".nii.gz":
        with gzip.GzipFile("SECRET.nii", "wb", fileobj=source.open("wb"), mtime=1234) as file:
            file.write(content)
    else:
        source.write_bytes(content)
    assert list(found_in(tmp_path / "in"))
    assert deidentify(tmp_path / "in", tmp_path / "out").written == 1
    assert list(found_in(tmp_path / "out")) == []
    made = next((tmp_path / "out" / "nifti").iterdir())
    assert made.name.endswith(suffix)
    if suffix == ".nii.gz":  # neither a name nor a time
        assert made.read_bytes()[3:8] == b"\0\0\0\0\0"
    before, after = nib.load(source), nib.load(made)
    np.testing.assert_array_equal(np.asanyarray(before.dataobj), np.asanyarray(after.dataobj))
    np.testing.assert_array_equal(before.affine, after.affine)
    assert before.header["xyzt_units"] == after.header["xyzt_units"]
    assert after.get_data_dtype() == before.get_data_dtype()
    assert deidentify(tmp_path / "in", tmp_path / "out").unchanged == 1


def test_the_other_byte_order_reads_the_same(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    swapped = nib.Nifti1Image(
        np.arange(24, dtype=">i2").reshape(2, 3, 4), AFFINE, nib.Nifti1Header(endianness=">")
    )
    (tmp_path / "in" / "a.nii").write_bytes(swapped.to_bytes())
    deidentify(tmp_path / "in", tmp_path / "out")
    made = nib.load(next((tmp_path / "out" / "nifti").iterdir()))
    np.testing.assert_array_equal(made.get_fdata(), swapped.get_fdata())


@pytest.mark.parametrize("damage", ["short", "magic", "dim", "gzip", "offset"])
def test_damaged_images_are_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "in").mkdir()
    content = bytearray(planted().to_bytes())
    if damage == "short":
        content = content[:-20]
    elif damage == "magic":
        content[344:348] = b"SECR"
    elif damage == "dim":
        content[40:42] = b"SE"
    elif damage == "offset":
        content[108:112] = b"SECR"
    name = "a.nii.gz" if damage == "gzip" else "a.nii"
    (tmp_path / "in" / name).write_bytes(bytes(content))
    done = deidentify(tmp_path / "in", tmp_path / "out")
    assert {row[3] for row in done.counts} == {"refused: damaged or unknown NIfTI"}
    assert list(found_in(tmp_path / "out")) == []
    assert not list((tmp_path / "out").rglob("*.part"))
