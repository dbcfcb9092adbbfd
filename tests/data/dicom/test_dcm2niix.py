"""dcm2niix converts the same series to the same HU at the same places."""

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless

from medmtl.data.dicom.reader import read_series
from tests.data.dicom.test_reader import TURNS
from tests.data.dicom.writers import Phantom, write_series

CONVERTER = shutil.which("dcm2niix")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CONVERTER is None, reason="dcm2niix is not installed"),
]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless])
def test_dcm2niix_gives_the_same_volume(tmp_path: Path, turn: str, syntax: UID) -> None:
    phantom = Phantom(shape=(40, 36, 9), turn=TURNS[turn], syntax=syntax, signed=True)
    write_series(tmp_path / "dicom", phantom)
    volume = read_series(tmp_path / "dicom", name="s")
    out = tmp_path / "nifti"
    out.mkdir()
    command = [str(CONVERTER), "-z", "n", "-b", "n", "-f", "a", "-o", out, tmp_path / "dicom"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (converted,) = out.glob("*.nii")
    # Rows are stored the other way round there: both are brought to the order R A S.
    theirs = nib.as_closest_canonical(nib.load(converted))
    ours = nib.as_closest_canonical(nib.Nifti1Image(volume.voxels, volume.affine))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
