import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from medmtl.data.dataset import LesionDataset
from medmtl.data.manifest import Manifest
from medmtl.data.tasks import ClassificationTask, OrganTask, Task
from medmtl.experiment.inner_scores import inner_scores
from medmtl.inference.organs import OrganSegmenter
from medmtl.models.multitask import MultiTaskModel
from tests.inference.stubs import Brighter, Eye
from tests.synthetic import write_cohort
from tests.training.tiny import MALIGNANCY, OUTLINE, SPICULATION, make_data

TASKS = (MALIGNANCY, SPICULATION, OUTLINE)


class Middle(nn.Module):
    """The brightness of the innermost voxels: malignant nodules are solid."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[0].float()[:, :, :, 3:5, 3:5].mean((2, 3, 4))


class Nothing(nn.Module):
    """Outlines nothing."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.full_like(features[0].float(), -1.0)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_cohort(tmp_path_factory.mktemp("cohort"), patients=8, side=16)


def make_stub(**heads: nn.Module) -> MultiTaskModel:
    usual = {"malignancy": Middle(), "spiculation": Middle(), "outline": Brighter(-650.0)}
    return MultiTaskModel(encoder=Eye(), heads={**usual, **heads}).eval()


def look(model: MultiTaskModel, data: LesionDataset, tasks: Sequence[Task]) -> dict[str, float]:
    def no_organs(model: MultiTaskModel, task: OrganTask) -> OrganSegmenter:
        raise AssertionError("no head looks at organs")

    return inner_scores(model, data, {}, tasks, precision="fp32", organ_segmenter=no_organs)


def scores(manifest: Manifest, model: MultiTaskModel | None = None, tasks=TASKS) -> dict:
    data = make_data(manifest, tasks=tasks, training=False)
    return look(model or make_stub(), data, tasks)


def test_a_network_that_sees_it_has_an_auc_of_one(manifest: Manifest) -> None:
    found = scores(manifest)
    assert set(found) == {"malignancy", "spiculation", "outline"}
    assert found["malignancy"] == 1.0
    assert found["outline"] > 0.7
    assert all(type(score) is float for score in found.values())


def test_the_auc_is_scikit_learn_s_over_the_labelled_lesions(manifest: Manifest) -> None:
    data = make_data(manifest, tasks=TASKS, training=False)
    batch = data.batch(torch.arange(len(data)), "slab")
    known = batch.observed["spiculation"]
    logits = make_stub()(batch.image, ["spiculation"])["spiculation"][known, 0]
    expected = roc_auc_score(batch.targets["spiculation"][known].numpy(), logits.numpy())
    assert scores(manifest)["spiculation"] == pytest.approx(expected)
    assert 0 < (~known).sum() < len(known)


def test_several_classes_are_judged_one_against_the_rest(manifest: Manifest) -> None:
    task = ClassificationTask(
        name="kinds", label="malignant", classes=("a", "b", "c"), window="slab"
    )
    lesions = tuple(
        replace(each, labels={**each.labels, "malignant": n % 3})
        for n, each in enumerate(manifest.lesions)
    )

    class Three(nn.Module):
        def forward(self, features: list[Tensor]) -> Tensor:
            x = features[0].float()
            return torch.stack([x[:, 0, 0, 1, 2], x[:, 0, 1, 4, 4], x[:, 0, 0, 5, 1]], 1) * 3

    relabelled = replace(manifest, lesions=lesions)
    data = make_data(relabelled, tasks=(task,), training=False)
    model = MultiTaskModel(encoder=Eye(), heads={"kinds": Three()}).eval()
    image = data.batch(torch.arange(len(data)), "slab").image
    predicted = model(image, ["kinds"])["kinds"].double().softmax(1).numpy()
    classes = np.arange(len(lesions)) % 3
    expected = np.mean([roc_auc_score(classes == n, predicted[:, n]) for n in range(3)])
    found = look(model, data, (task,))
    assert found["kinds"] == pytest.approx(expected, abs=1e-6)


def test_the_dice_is_the_mean_over_outlined_lesions(manifest: Manifest) -> None:
    first, second, *others = manifest.lesions
    partly = replace(manifest, lesions=(first, replace(second, mask=None), *others))
    data = make_data(partly, tasks=TASKS, training=False)
    batch = data.batch(torch.arange(len(data)), "patch")
    found = (make_stub()(batch.image, ["outline"])["outline"] > 0) & batch.inside
    each = [
        2 * (f & t).sum().item() / (f.sum().item() + t.sum().item())
        for f, t, seen in zip(
            found, batch.targets["outline"], batch.observed["outline"], strict=True
        )
        if seen
    ]
    assert len(each) == len(manifest.lesions) - 1
    assert scores(partly)["outline"] == pytest.approx(np.mean(each), abs=1e-6)


def test_a_missed_outline_scores_zero(manifest: Manifest) -> None:
    assert scores(manifest, make_stub(outline=Nothing()))["outline"] == 0.0


def test_voxels_beyond_the_file_are_not_found(manifest: Manifest) -> None:
    class EdgeToo(Brighter):
        """Outlines what lies beyond the file as well."""

        def forward(self, features: list[Tensor]) -> Tensor:
            return torch.where(features[0] <= -1, 5.0, super().forward(features))

    x, y, z = manifest.lesions[0].position_mm
    aside = tuple(replace(e, position_mm=(x + 5.0, y, z)) for e in manifest.lesions[:1])
    cornered = replace(manifest, lesions=aside)
    data = make_data(cornered, tasks=(OUTLINE,), training=False)
    assert not data.batch(torch.arange(1), "patch").inside.all()
    pair = [
        scores(cornered, make_stub(outline=head), (OUTLINE,))["outline"]
        for head in (EdgeToo(-650.0), Brighter(-650.0))
    ]
    assert pair[0] == pair[1]


@pytest.mark.parametrize("unknown", ["mask", "malignant"])
def test_an_inner_split_without_a_label_has_no_score_for_the_loop_to_refuse(
    manifest: Manifest, unknown: str
) -> None:
    lesions = tuple(
        replace(e, mask=None)
        if unknown == "mask"
        else replace(e, labels={**e.labels, unknown: None})
        for e in manifest.lesions
    )
    found = scores(replace(manifest, lesions=lesions))
    assert math.isnan(found["outline" if unknown == "mask" else "malignancy"])
