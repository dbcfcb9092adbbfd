import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from medmtl.data.dataset import LesionDataset
from medmtl.data.manifest import Manifest
from medmtl.data.tasks import ClassificationTask
from medmtl.inference import classify
from medmtl.inference.classify import classification_logits, probabilities, view_placements
from medmtl.models.multitask import MultiTaskModel
from tests.inference.stubs import Lopsided, MeanBrightness, stub
from tests.synthetic import write_cohort
from tests.training.tiny import MALIGNANCY, make_data, make_model

TASKS = (MALIGNANCY,)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_cohort(tmp_path_factory.mktemp("cohort"), patients=8, side=14)


@pytest.fixture(scope="module")
def data(manifest: Manifest) -> LesionDataset:
    return make_data(manifest, tasks=TASKS, training=False)


@pytest.fixture(scope="module")
def model(data: LesionDataset) -> MultiTaskModel:
    model = make_model(TASKS)
    for _ in range(30):  # running statistics, as after a training
        model(data.batch(torch.arange(len(data)), "slab").image, ["malignancy"])
    return model.eval()


def logits_of(model, data, precision="fp32", average_views=False, task=MALIGNANCY):
    return classification_logits(
        model, data, task, average_views=average_views, precision=precision
    )


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-2)])
@pytest.mark.parametrize("average_views", [False, True])
def test_who_else_is_asked_about_does_not_matter(
    model, data, manifest, monkeypatch, precision: str, tolerance: float, average_views: bool
) -> None:
    together = logits_of(model, data, precision, average_views)
    assert together.shape == (len(data), 1)
    for batch in (1, 3):
        monkeypatch.setattr(classify, "BATCH", batch)
        assert torch.allclose(
            logits_of(model, data, precision, average_views), together, atol=tolerance
        )
    alone = make_data(manifest, manifest.lesions[2:3], tasks=TASKS, training=False)
    assert torch.allclose(
        logits_of(model, alone, precision, average_views), together[2:3], atol=tolerance
    )


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_asking_twice_gives_the_same_bits(model, data, precision: str) -> None:
    one, two = (logits_of(model, data, precision, True) for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_annotations_do_not_change_a_prediction(model, data, manifest, precision: str) -> None:
    bare = make_data(manifest.without_annotations(), tasks=TASKS, training=False)
    for views in (False, True):
        one, other = (logits_of(model, each, precision, views) for each in (data, bare))
        assert torch.equal(one, other)


@pytest.mark.parametrize("outputs", [1, 3])
def test_averaged_views_of_an_impartial_network_equal_the_single_view(data, outputs: int) -> None:
    classes = ("a", "b") if outputs == 1 else ("a", "b", "c")
    task = ClassificationTask(name="malignancy", label="malignant", classes=classes, window="slab")
    model = stub(MeanBrightness(outputs), "malignancy")
    one, averaged = (logits_of(model, data, average_views=v, task=task) for v in (False, True))
    assert one.shape == (len(data), outputs)
    assert torch.allclose(one, averaged, atol=1e-4)
    assert one.std() > 0.01


def test_averaged_views_see_every_corner(data) -> None:
    one, averaged = (
        logits_of(stub(Lopsided(), "malignancy"), data, average_views=views)
        for views in (False, True)
    )
    assert (one - averaged).abs().max() > 1e-3
    images = data.batch(torch.arange(len(data)), "slab").image[:, 0].numpy()
    turned = [np.rot90(images, k, axes=(2, 3)) for k in range(4)]
    views = [view for each in turned for view in (each, each[:, ::-1])]
    expected = np.mean([view[:, 0, 0, :2].mean(-1) for view in views], axis=0)
    assert averaged[:, 0].numpy() == pytest.approx(expected, abs=2e-3)


def test_oblong_windows_are_turned_by_halves_only() -> None:
    assert len(view_placements(2, square=True)) == 8
    oblong = view_placements(2, square=False)
    assert len(oblong) == 4
    assert all(not placement.matrices[:, 1, 2].any() for placement in oblong)


def test_nobody_has_no_logits(model, manifest) -> None:
    nobody = make_data(manifest, [], tasks=TASKS, training=False)
    assert logits_of(model, nobody).shape == (0, 1)


def test_predicting_leaves_the_model_and_the_gradient_mode_alone(model, data) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = logits_of(model, data)
    assert not logits.requires_grad and torch.is_grad_enabled()
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.7])
def test_probabilities_sum_to_one(outputs: int, temperature: float) -> None:
    logits = torch.randn(40, outputs, generator=torch.Generator().manual_seed(0)) * 30
    found = probabilities(logits, temperature).numpy()
    assert found.shape == (40, max(2, outputs))
    assert (found >= 0).all() and (found <= 1).all()
    assert found.sum(1) == pytest.approx(np.ones(40), abs=1e-12)


def test_temperature_one_changes_nothing() -> None:
    one = torch.randn(40, 1, generator=torch.Generator().manual_seed(1)) * 3
    several = torch.randn(40, 4, generator=torch.Generator().manual_seed(2)) * 3
    assert probabilities(one, 1.0)[:, 1].numpy() == pytest.approx(expit(one[:, 0].double().numpy()))
    assert probabilities(several, 1.0).numpy() == pytest.approx(
        softmax(several.double().numpy(), 1)
    )


def test_a_higher_temperature_is_less_sure_and_keeps_the_order() -> None:
    logits = torch.linspace(-4, 4, 9)[:, None]
    cold, warm = (probabilities(logits, t)[:, 1] for t in (0.5, 5.0))
    assert (warm - 0.5).abs().sum() < (cold - 0.5).abs().sum()
    assert (cold.diff() > 0).all() and (warm.diff() > 0).all()


def test_extreme_logits_stay_probabilities() -> None:
    logits = torch.tensor([[-1e6], [1e6]])
    assert probabilities(logits, 0.05).tolist() == [[1.0, 0.0], [0.0, 1.0]]
