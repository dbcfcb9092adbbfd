"""Looks at the organs of the inner split, and the offsets that are chosen there."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medmtl.data.geometry import WHOLE
from medmtl.data.intensity import IntensityWindow
from medmtl.data.manifest import Scan
from medmtl.data.patches import ScanDataset
from medmtl.data.reading import MaskVolume
from medmtl.experiment.inner_scores import inner_scores
from medmtl.experiment.organ_offsets import choose_offsets
from medmtl.inference.network import make_network
from medmtl.inference.organs import OrganSegmenter
from medmtl.models.multitask import MultiTaskModel
from tests.data.organ_scans import (
    HIGH_HU,
    LOW_HU,
    TASK,
    VALUES,
    OrganScan,
    noisy_scan,
    organ_dataset,
)
from tests.inference.stubs import stub
from tests.synthetic import write_cohort
from tests.training.tiny import make_data

CODES_HU = {"right": -600.0, "heart": 0.0, "left": 600.0}


class Coded(nn.Module):
    """A logit of `height` for the organ with its own HU, -1 elsewhere."""

    def __init__(self, height: float = 1.0) -> None:
        super().__init__()
        self.height = height

    def forward(self, features: list[Tensor]) -> Tensor:
        hu = (features[0].float() + 1) / 2 * (HIGH_HU - LOW_HU) + LOW_HU
        return torch.cat(
            [
                torch.where((hu - CODES_HU[name]).abs() < 50, self.height, -1.0)
                for name in TASK.structures
            ],
            dim=1,
        )


def painted(labels: np.ndarray, drawn=tuple(VALUES), wrong: float = 0.0) -> OrganScan:
    """A scan whose HU tell the organs, but for a share of voxels."""
    generator = np.random.default_rng(1)
    told = np.where(generator.random(labels.shape) < wrong, generator.permutation(labels.ravel())
                    .reshape(labels.shape), labels)  # fmt: skip
    hu = np.full(labels.shape, -950, dtype=np.int16)
    for name, value in VALUES.items():
        hu[told == value] = CODES_HU[name]
    return OrganScan(hu=hu, labels=labels, drawn=frozenset(drawn))


def segmenter(model: MultiTaskModel, task=TASK) -> OrganSegmenter:
    return OrganSegmenter(
        networks=[make_network(model, task.name, runtime="torch", precision="fp32")],
        task=task,
        patch=(4, 8, 8),
        stride=(1, 1, 1),
        overlap=0.25,
        intensity=IntensityWindow(low_hu=LOW_HU, high_hu=HIGH_HU),
        shown="image",
        offsets=[[0.0] * len(task.structures)],
        one_piece=False,
        average_views=False,
        precision="fp32",
    )


def score(data: ScanDataset, model: MultiTaskModel, tmp_path: Path) -> float:
    nobody = make_data(write_cohort(tmp_path / "nobody", patients=2, side=10), (), tasks=())
    found = inner_scores(
        model, nobody, {"box": data}, (TASK,), precision="fp32", organ_segmenter=segmenter
    )
    return found["organs"]


def test_the_score_is_the_mean_over_drawn_organs_then_over_scans(tmp_path: Path) -> None:
    scans = [
        painted(noisy_scan(seed=1).labels, wrong=0.4),
        painted(noisy_scan(seed=2).labels, drawn=("heart",), wrong=0.2),
        painted(noisy_scan(seed=3).labels, drawn=()),
    ]
    data = organ_dataset(tmp_path, scans, size=(5, 8, 8))
    means = []
    for scan in scans[:2]:
        dices = []
        for name in sorted(scan.drawn):
            one, other = scan.hu == CODES_HU[name], scan.labels == VALUES[name]
            dices.append(2 * (one & other).sum() / (one.sum() + other.sum()))
        means.append(np.mean(dices))
    model = stub(Coded(), task="organs")
    assert score(data, model, tmp_path) == pytest.approx(np.mean(means), abs=1e-6)
    assert 0.5 < np.mean(means) < 0.95


def test_an_undrawn_organ_of_the_map_changes_no_score(tmp_path: Path) -> None:
    labels = noisy_scan(seed=1).labels
    heart = painted(labels, drawn=("heart",), wrong=0.3)
    without = replace(heart, labels=np.where(labels == VALUES["heart"], labels, 0))
    model = stub(Coded(), task="organs")
    pair = [
        score(organ_dataset(tmp_path / str(n), [each], size=(5, 8, 8)), model, tmp_path / str(n))
        for n, each in enumerate((heart, without))
    ]
    assert pair[0] == pair[1] < 1


def test_without_any_drawn_organ_there_is_no_score_for_the_loop_to_refuse(tmp_path: Path) -> None:
    data = organ_dataset(tmp_path, [noisy_scan(drawn=())], size=(5, 8, 8))
    assert math.isnan(score(data, stub(Coded(), task="organs"), tmp_path))


def chosen_offsets(asked: OrganSegmenter, data: ScanDataset) -> list[float]:
    """Of scans that are stored as they are cached."""

    def read_organs(scan: Scan) -> MaskVolume:
        case = data.cases[scan.scan_id]
        return MaskVolume(voxels=case.read_organs(WHOLE).astype(np.int16), affine=case.affine)

    return choose_offsets(asked, data, read_organs)


class TooMuch(Coded):
    """Of what is nothing says right 0.4, heart 0.3, left 0.2; of an organ 2 more."""

    def forward(self, features: list[Tensor]) -> Tensor:
        eager = torch.tensor([1.4, 1.3, 1.2])[:, None, None, None]
        return super().forward(features) + eager


def test_what_is_told_apart_by_0_needs_no_offset(tmp_path: Path) -> None:
    data = organ_dataset(tmp_path, [painted(noisy_scan().labels)], size=(5, 8, 8))
    assert chosen_offsets(segmenter(stub(Coded(), task="organs")), data) == [0.0, 0.0, 0.0]


def test_of_one_organ_the_offset_is_that_of_the_highest_dice(tmp_path: Path) -> None:
    labels = noisy_scan().labels
    data = organ_dataset(tmp_path, [painted(labels, drawn=("right",))], size=(5, 8, 8))
    offsets = chosen_offsets(segmenter(stub(TooMuch(), task="organs")), data)
    assert offsets == [0.5, 0.0, 0.0]  # the others were not drawn


def test_chosen_offsets_do_in_use_what_they_were_chosen_for(tmp_path: Path) -> None:
    """What is nothing looks most like right: with 0.5 for it every voxel is right."""
    data = organ_dataset(tmp_path, [painted(noisy_scan().labels)], size=(5, 8, 8))
    plain = segmenter(stub(TooMuch(), task="organs"))
    chosen = replace(plain, offsets=[chosen_offsets(plain, data)])
    (case,) = data.cases.values()
    assert chosen.offsets[0] == [0.5, 0.0, 0.0]
    reference = case.read_organs(WHOLE)
    found = chosen.segment(case, case.grid)
    for value, name in enumerate(TASK.structures, start=1):
        assert np.array_equal(found == value, reference == VALUES[name]), name


def test_organs_that_nobody_drew_or_that_are_not_there_keep_no_offset(tmp_path: Path) -> None:
    labels = noisy_scan().labels
    labels = np.where(labels == VALUES["right"], 0, labels)
    scan = painted(labels, drawn=("right", "heart"))
    found = chosen_offsets(
        segmenter(stub(Coded(2.0), task="organs")), organ_dataset(tmp_path, [scan], size=(5, 8, 8))
    )
    assert found == [0.0, 0.0, 0.0]
