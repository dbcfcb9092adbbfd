"""Seven organs in 300 x 512 x 512 voxels, with the same trained weights.

The weights are those of the first cell of configs/openkbp.yaml (organs alone, fold 0), trained
here if they are not there yet. The volume is a mosaic of real scans, each on the network's own
grid, beside one another until 300 x 512 x 512 voxels are full: a network says something sensible
only on the grid that it was trained on, and no scan of the collection is that large. The peer is
MONAI's SlidingWindowInferer in torch and fp32, on windows as large as the patches of the training,
with the same overlap and Gaussian blending.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from benchmarks.contest import OURS, ROOT, Bar, Contest
from benchmarks.memory import peak_mb

CONFIG, RUN, CELL = ROOT / "configs" / "openkbp.yaml", ROOT / "runs" / "openkbp", "organs_r0_f0"
FOLDER = ROOT / "runs" / "bench"
SCAN, REFERENCE = FOLDER / "inference-scan.npy", FOLDER / "inference-reference.npy"
SHAPE, PIECE = (300, 512, 512), (100, 73, 128)

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
    rounds=2,
)


def prepare() -> dict[str, str]:
    """Trains the weights, lays the mosaic, and has MONAI find the reference."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (RUN / "cells" / CELL / "done.json").is_file():
        for command in (["cross-validate", str(CONFIG), "--prepare"], ["cell", str(RUN), CELL]):
            subprocess.run([sys.executable, "-m", "medmtl", *command], cwd=ROOT, check=True)
    np.save(SCAN, _mosaic())
    reference = _monai(np.load(SCAN))
    np.save(REFERENCE, reference)
    from medmtl.inference.tiling import body_blocks, tile

    chosen = _segmenter("torch")
    tiles = tile(
        body_blocks(np.load(SCAN)),
        SHAPE,
        patch=chosen.patch,
        overlap=chosen.overlap,
        stride=chosen.stride,
    )
    asked = sum(int(np.prod(each.size)) for each in tiles) / np.prod(SHAPE)
    return {
        "share of the voxels that are organs to the peer": f"{(reference > 0).mean():.2%}",
        "voxels that our windows look at, in volumes": f"{asked:.2f}",
    }


def _job() -> Any:
    from medmtl.build.cell import build_cell
    from medmtl.run_folder import RunFolder

    return build_cell(RunFolder(RUN), CELL)


def _mosaic() -> Any:
    """Scans on the grid of the network, cut or filled up to pieces of one size."""
    from medmtl.data.windows import NO_HU

    volume = np.full(SHAPE, NO_HU, dtype=np.int16)
    parts = _job().scan_parts.values()
    cases = [case for part in parts for data in part.values() for case in data.cases.values()]
    places = [range(0, side - piece + 1, piece) for side, piece in zip(SHAPE, PIECE, strict=True)]
    for case, corner in zip(cases, product(*places), strict=False):
        found = case.read_image(tuple(map(slice, PIECE)))
        box = tuple(slice(c, c + n) for c, n in zip(corner, found.shape, strict=True))
        volume[box] = found
    return volume


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


def _segmenter(name: str) -> Any:
    """The whole of our inference, but for the choice of the largest piece: here are many heads."""
    from medmtl.inference.ensemble import load_weights
    from medmtl.inference.network import Runtime, make_network
    from medmtl.training.checkpoint import load_tensors

    job = _job()
    saved = load_tensors(RUN / "cells" / CELL / "model.pt")
    model = load_weights(job.model, saved["state"])
    (task,) = job.tasks
    chosen: Runtime = "openvino" if name == OURS else "torch"
    segmenter = job.judgement.quick_organ_segmenter(model, task)
    return replace(
        segmenter,
        networks=[make_network(model, task.name, runtime=chosen, precision="bf16")],
        offsets=[saved["calibration"][task.name]["offsets"]],
        one_piece=False,
    )


def _ours(name: str, voxels: Any) -> Any:
    """The label map on the grid of the volume."""
    scan = _Scan(voxels)
    return _segmenter(name).segment(scan, scan.grid)


def _monai(voxels: Any) -> Any:
    import torch
    from monai.inferers import SlidingWindowInferer

    from medmtl.data.windows import NO_HU

    torch.set_num_threads(1)
    asked = _segmenter("torch")
    image = asked.intensity.scale(torch.as_tensor(voxels).float()[None, None])
    beyond = asked.intensity.scale(torch.full((1, 1, 1, 1, 1), float(NO_HU))).item()
    infer = SlidingWindowInferer(
        asked.patch, sw_batch_size=4, overlap=asked.overlap, mode="gaussian", cval=beyond
    )
    network = asked.networks[0].head
    with torch.no_grad():
        logits = infer(image, network)[0]
    highest, place = logits.max(0)
    limits = torch.tensor(asked.offsets[0])
    return torch.where(highest > limits[place], place + 1, 0).to(torch.uint8).numpy()


def contest(name: str) -> dict[str, float]:
    """Measures one contestant; imports are not counted, the conversion of the network is."""
    _segmenter("torch")  # everything is imported and the cache checked
    voxels = np.load(SCAN)
    start_s = time.perf_counter()
    found = _monai(voxels) if name == "monai" else _ours(name, voxels)
    scan_s = time.perf_counter() - start_s
    memory_mb = peak_mb()
    reference = np.load(REFERENCE)
    return {
        "scan_s": scan_s,
        "agreement": float((found == reference).mean()),
        "organ_dice": _mean_dice(found, reference),
        "memory_mb": memory_mb,
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
