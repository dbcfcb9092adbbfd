"""How much memory reading takes: measured in a process of its own, beyond what libraries take."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.phantom.dicom_series import write_series
from tests.data.phantom.tiny_scan import make_tiny_patient
from tests.small_experiment import environment

AFFINE = np.diag([0.8, 0.8, 0.6, 1.0])
MOST_MB = 1500
READ = """
import sys
from pathlib import Path
from medmtl.data.audit import content_hash
from medmtl.data.contamination.near import fingerprint
from medmtl.data.reading import read_volume
from medmtl.data.transforms import prepare_case
volume = read_volume(Path(sys.argv[1]), name="scan")
assert volume.voxels.shape == (512, 512, 600), volume.voxels.shape
content_hash(volume)
fingerprint(volume)
prepare_case(volume, {}, spacing_mm=(1.0, 1.0, 1.0), name="scan")
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""

MANY = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np
from medmtl.data.cache import CaseCache
from medmtl.data.cases import CaseLoader, Preparation, prepare_cases
from medmtl.data.manifest import DataCard, Manifest, Scan
folder = Path(sys.argv[1])
generator = np.random.default_rng(0)
for hundred in range(10):
    scans = []
    for number in range(100 * hundred, 100 * hundred + 100):
        voxels = generator.integers(-1000, 1000, (96, 96, 64)).astype(np.int16)
        path = folder / "data" / f"s{number}.nii"
        nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 1.5, 1.0])), path)
        names = {"scan_id": path.stem, "patient_id": path.stem, "series_id": ""}
        scans.append(Scan(**names, image=path.name))
    card = DataCard(name="many", data_root="data")
    manifest = Manifest(folder=folder, card=card, scans=tuple(scans), lesions=())
    cache = CaseCache(folder=folder / "cache", max_gb=0.2)
    loader = CaseLoader(manifest=manifest, cache=cache, spacing_mm=(2.0, 2.0, 2.0))
    prepare_cases([Preparation(loader=loader, scans=scans)], workers=2)
    for scan in scans:
        loader.open(scan).read_image((slice(0, 16),) * 3)
        (folder / "data" / scan.image).unlink()
    status = Path("/proc/self/status").read_text()
    print(int(status.split("RssAnon:")[1].split()[0]) / 1024)
"""


def long_scan() -> np.ndarray:
    """Slices k, j, i whose HU follow their place: none is like another."""
    k, j, i = np.ogrid[:600, :512, :512]
    return ((i + 2 * j + 3 * k) % 1500 - 1000).astype(np.int16)


def write_nifti(folder: Path) -> Path:
    path = folder / "scan.nii.gz"
    nib.save(nib.Nifti1Image(long_scan().T, AFFINE), path)
    return path


def write_dicom(folder: Path) -> Path:
    organs = np.zeros((600, 512, 512), dtype=np.uint8)
    scan = replace(make_tiny_patient(0, 1), voxels=long_scan(), organs=organs, affine=AFFINE)
    write_series(folder / "series", scan, patient_id="LONG", seed=0)
    return folder / "series"


def peak_mb(path: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_nifti, write_dicom])
def test_a_long_scan_is_read_hashed_and_resampled_within_1500_mb(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    assert peak_mb(write(tmp_path)) < MOST_MB


@pytest.mark.slow
def test_a_thousand_scans_leave_the_memory_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    after = [float(each) for each in done.stdout.split()]
    assert len(after) == 10
    # The first rounds fill the list of open arrays, which has a bound.
    assert after[-1] - after[5] < 30, after
