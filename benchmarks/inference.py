"""Seven organs in a whole chest CT of 300 x 512 x 512 voxels, with the same weights.

The network is trained on synthetic chests first, for some minutes, at the resolution and with the
patches that are asked about here: of weights that know nothing, agreement would mean nothing. The
scan is a real one. The peer is MONAI's SlidingWindowInferer with Gaussian blending and its usual
overlap, in torch and fp32, on windows as large as the patches of the training.
"""

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.contest import OURS, ROOT, Bar, Contest
from benchmarks.memory import peak_mb

SERIES = ROOT.parent / "shared" / "data" / "chest_ct_dicom"
FOLDER = ROOT / "runs" / "bench"
COHORT, RUN = FOLDER / "inference-cohort", FOLDER / "inference"
SCAN, WEIGHTS, REFERENCE = RUN / "scan.npy", RUN / "weights.pt", RUN / "reference.npy"
CELL = "organs_r0_f0"
SHAPE, EDGE, OVERLAP = (300, 512, 512), 96, 0.25
PATIENTS, EPOCHS = 8, 60
LOW_HU, HIGH_HU = -1000.0, 600.0

CONTEST = Contest(
    name="inference",
    title="Seven organs in a whole scan",
    work=(
        "from 300 x 512 x 512 voxels of HU to a label map of seven organs, the same weights, one "
        "core; agreement and Dice are with the label map of MONAI's inferer in fp32"
    ),
    contestants={
        OURS: "medmtl, OpenVINO (bf16)",
        "torch": "medmtl, torch (bf16)",
        "monai": "MONAI SlidingWindowInferer, torch (fp32)",
    },
    measures={
        "scan_s": ("s", False),
        "agreement": ("share of voxels", True),
        "organ_dice": ("mean over organs", True),
        "memory_mb": ("MB of the process at most", False),
    },
    bars=[
        Bar(measure="scan_s", peer="monai", factor=10.0),
        Bar(measure="agreement", factor=0.995, kind="floor"),
        Bar(measure="memory_mb", factor=3000.0, kind="limit"),
    ],
    rounds=3,
)


def prepare() -> dict[str, str]:
    """Trains the weights, brings the scan to its grid, and has MONAI find the reference."""
    RUN.mkdir(parents=True, exist_ok=True)
    _freeze()
    if not WEIGHTS.is_file():
        _train()
    if not SCAN.is_file():
        np.save(SCAN, _scan_hu())
    np.save(REFERENCE, _monai(np.load(SCAN)))
    found = np.bincount(np.load(REFERENCE).ravel(), minlength=8)[1:]
    tiles = _tiles(np.load(SCAN))
    asked = sum(int(np.prod(tile.size)) for tile in tiles) / np.prod(SHAPE)
    return {
        "weights": f"trained on {PATIENTS} synthetic chests, {EPOCHS} rounds, patches of 96 mm",
        "scan": "a real chest CT (141 slices of 2 mm), resampled",
        "organs that the peer finds, share of the scan": ", ".join(
            f"{count / np.prod(SHAPE):.3%}" for count in found
        ),
        "voxels that our windows look at, in scans": f"{asked:.2f}",
    }


def _freeze() -> None:
    from medmtl.build.experiment import build_cross_validation
    from medmtl.config import Config
    from medmtl.data.phantom.cohort import make_cohort
    from medmtl.experiment.plan import freeze_plan

    make_cohort(COHORT, patients=PATIENTS, seed=8, missing={}, dicom=False, workers=2)
    config = Config.model_validate(
        {
            "name": RUN.name,
            "output": str(FOLDER),
            "manifest": str(COHORT),
            "cache": {"folder": str(FOLDER / "cache")},
            "intensity": {"low_hu": LOW_HU, "high_hu": HIGH_HU},
            "patches": {
                "chest": {
                    "size_mm": [EDGE] * 3,
                    "spacing_mm": [1.0] * 3,
                    "batch_size": 2,
                    "augmentation": {"flip_width": False},
                }
            },
            "heads": {"organs": {"kind": "organs", "patch": "chest"}},
            "arms": {"organs": {"heads": ["organs"]}},
            "training": {"epochs": EPOCHS, "learning_rate": 0.003},
            "folds": {"count": 2, "inner_fraction": 0.25},
            "tracking": {"enabled": False},
        }
    )  # fmt: skip
    experiment = build_cross_validation(config)
    freeze_plan(
        experiment.run,
        experiment.plan,
        experiment.config_text,
        experiment.folds,
        experiment.binding,
    )


def _job() -> Any:
    from medmtl.build.cell import build_cell
    from medmtl.run_folder import RunFolder

    return build_cell(RunFolder(RUN), CELL)


def _train() -> None:
    """On all scans: the one that is asked about is of another kind altogether."""
    from dataclasses import replace

    import torch

    from benchmarks.training import make_trainer

    torch.set_num_threads(2)
    job = _job()
    parts = [part["chest"] for part in job.scan_parts.values()]
    scans = [scan for part in parts for scan in part.scans]
    cases = {scan_id: case for part in parts for scan_id, case in part.cases.items()}
    together = replace(parts[0], scans=scans, cases=cases)
    make_trainer(job, scans={"chest": together}).train()
    torch.save(job.model.state_dict(), WEIGHTS)


def _scan_hu() -> Any:
    """The real chest CT, depth first, on a grid of so many voxels."""
    import SimpleITK
    import torch

    from medmtl.data.reading import read_volume
    from medmtl.data.resampling import resample, respaced
    from medmtl.data.transforms import depth_first

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(SERIES)))
    path = RUN / "scan.nii.gz"
    SimpleITK.WriteImage(reader.Execute(), str(path))
    voxels, grid = depth_first(read_volume(path, name="the chest CT"))
    extent_mm = np.array(grid.shape) * grid.spacing_mm
    target = respaced(grid, tuple(extent_mm / np.array(SHAPE)))
    return resample(torch.as_tensor(voxels).float(), grid, target).round().short().numpy()


@dataclass(frozen=True)
class _Scan:
    """What a segmenter asks of a cached case, in memory."""

    voxels: Any
    shape: tuple[int, int, int] = SHAPE

    def read_image(self, box: Any) -> Any:
        return self.voxels[box]

    @property
    def grid(self) -> Any:
        from medmtl.data.geometry import Grid

        return Grid(shape=SHAPE, affine=np.eye(4)[[2, 1, 0, 3]])


def _model() -> Any:
    import torch

    job = _job()
    job.model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return job, job.model.eval()


def _segmenter(runtime: str) -> Any:
    from dataclasses import replace

    from medmtl.inference.network import Runtime, make_network

    job, model = _model()
    (task,) = job.tasks
    chosen: Runtime = "openvino" if runtime == OURS else "torch"
    network = make_network(model, task.name, runtime=chosen, precision="bf16")
    return replace(
        job.judgement.quick_organ_segmenter(model, task), networks=[network], overlap=OVERLAP
    )


def _tiles(voxels: Any) -> Any:
    from medmtl.inference.tiling import body_blocks, tile

    chosen = _segmenter("torch")
    return tile(body_blocks(voxels), SHAPE, patch=chosen.patch, overlap=OVERLAP, stem=chosen.stem)


def _ours(name: str, voxels: Any) -> Any:
    """The label map on the grid of the scan."""
    scan = _Scan(voxels)
    return _segmenter(name).segment(scan, scan.grid).transpose(2, 1, 0)


def _monai(voxels: Any) -> Any:
    import torch
    from monai.inferers import SlidingWindowInferer

    torch.set_num_threads(1)
    _, model = _model()
    image = torch.as_tensor(voxels).float()[None, None]
    image = (image.clamp(LOW_HU, HIGH_HU) - LOW_HU) * (2 / (HIGH_HU - LOW_HU)) - 1
    infer = SlidingWindowInferer([EDGE] * 3, overlap=OVERLAP, mode="gaussian", cval=-1.0)
    with torch.no_grad():
        logits = infer(image, lambda windows: model(windows, ["organs"])["organs"])[0]
    highest, place = logits.max(0)
    return torch.where(highest > 0, place + 1, 0).to(torch.uint8).numpy()


def contest(name: str) -> dict[str, float]:
    """Measures one contestant; imports are not counted, the conversion of the network is."""
    _segmenter("torch")  # everything is imported and the cache checked
    voxels, reference = np.load(SCAN), np.load(REFERENCE)
    start_s = time.perf_counter()
    found = _monai(voxels) if name == "monai" else _ours(name, voxels)
    scan_s = time.perf_counter() - start_s
    return {
        "scan_s": scan_s,
        "agreement": float((found == reference).mean()),
        "organ_dice": _mean_dice(found, reference),
        "memory_mb": peak_mb(),
    }


def _mean_dice(found: Any, reference: Any) -> float:
    both = np.bincount(found[found == reference], minlength=8)[1:]
    total = (
        np.bincount(found.ravel(), minlength=8)[1:]
        + np.bincount(reference.ravel(), minlength=8)[1:]
    )
    return float(np.mean(2 * both[total > 0] / total[total > 0]))


if __name__ == "__main__":
    print(json.dumps(contest(sys.argv[1])))
