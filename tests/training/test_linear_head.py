from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medmtl.data.manifest import Manifest
from medmtl.data.tasks import ClassificationTask
from medmtl.errors import TrainingError
from medmtl.inference.classify import classification_logits, probabilities, view_placements
from medmtl.training.linear_head import STRENGTHS, UNKNOWN_STRENGTH, fit_head, fit_linear
from tests.synthetic import write_cohort
from tests.training.tiny import MALIGNANCY, make_data, make_model

THREE = ClassificationTask(
    name="malignancy", label="malignant", classes=("a", "b", "c"), window="slab"
)
VIEWS = partial(view_placements, square=True)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_cohort(tmp_path_factory.mktemp("cohort"), patients=10, side=12)


def of_three(manifest: Manifest) -> list:
    return [
        replace(each, labels={**each.labels, "malignant": n % 3 if n % 7 else None})
        for n, each in enumerate(manifest.lesions)
    ]


def pooled(model, data, task) -> np.ndarray:
    """By hand: mean and maximum of the coarsest map, averaged over the eight views."""
    rows = torch.arange(len(data))
    total = 0
    with torch.no_grad():
        for placement in view_placements(len(rows), square=True):
            coarsest = model.encoder(data.batch(rows, task.window, placement).image)[-1]
            total = total + torch.cat([coarsest.mean((2, 3, 4)), coarsest.amax((2, 3, 4))], dim=1)
    return (total / 8).double().numpy()


@pytest.mark.parametrize("task", [MALIGNANCY, THREE], ids=["two classes", "three classes"])
def test_a_fitted_head_gives_the_probabilities_of_a_scikit_learn_pipeline(
    manifest: Manifest, task: ClassificationTask
) -> None:
    lesions = manifest.lesions if task is MALIGNANCY else of_three(manifest)
    data = make_data(manifest, lesions, tasks=(task,))
    model = make_model((task,)).eval()
    fit = fit_head(model, data, task, views=VIEWS, precision="fp32", seed=3)

    features = pooled(model, data, task)
    classes = [each.labels["malignant"] for each in lesions]
    known = np.array([each is not None for each in classes])
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=fit.strength, max_iter=10_000))
    peer.fit(features[known], np.array(classes)[known].astype(int))
    logits = classification_logits(model, data, task, average_views=True, precision="fp32")
    expected = peer.predict_proba(features)
    assert probabilities(logits, 1.0).numpy() == pytest.approx(expected, abs=2e-3)


def test_only_the_head_changes(manifest: Manifest) -> None:
    data = make_data(manifest, tasks=(MALIGNANCY,))
    model = make_model((MALIGNANCY,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit_head(model, data, MALIGNANCY, views=VIEWS, precision="bf16", seed=3)
    changed = [n for n, value in model.state_dict().items() if not torch.equal(value, before[n])]
    assert changed == ["heads.task_malignancy.linear.weight", "heads.task_malignancy.linear.bias"]


def noise(lesions: int, features: int, seed: int = 0):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(lesions, features)) * 10 + 50
    classes = np.arange(lesions) % 2
    return values, classes, [f"p{n // 4}" for n in range(lesions)]


def test_what_cannot_be_learned_is_regularised_most() -> None:
    values, classes, patients = noise(60, 40)
    fit = fit_linear(values, classes, patients, seed=0)
    assert fit.strength in STRENGTHS[:3]
    assert len(fit.log_loss) == len(STRENGTHS)
    assert min(fit.log_loss) == fit.log_loss[STRENGTHS.index(fit.strength)]


def test_what_is_plain_is_regularised_little() -> None:
    values, classes, patients = noise(60, 3)
    values[:, 1] = 5 + classes
    fit = fit_linear(values, classes, patients, seed=0)
    assert fit.strength >= 1
    assert (((values @ fit.weight.T + fit.bias)[:, 0] > 0) == classes).all()


def test_strengths_are_judged_on_other_patients() -> None:
    """Lesions of a patient are alike: what tells patients apart must not look like knowledge."""
    generator = np.random.default_rng(0)
    owners = np.repeat(np.arange(20), 5)
    classes = owners % 2
    values = generator.normal(size=(20, 30))[owners] + 0.01 * generator.normal(size=(100, 30))
    fit = fit_linear(values, classes, [f"p{each}" for each in owners], seed=0)
    assert fit.log_loss[-1] > np.log(2)


def test_patients_too_few_to_hold_any_out_get_a_fixed_strength() -> None:
    values, classes, _ = noise(4, 3)
    fit = fit_linear(values, classes, ["a", "b", "a", "b"], seed=0)  # a class a patient
    assert (fit.strength, fit.log_loss) == (UNKNOWN_STRENGTH, [])


def test_a_feature_that_never_varies_weighs_nothing() -> None:
    values, classes, patients = noise(20, 3)
    values[:, 2] = 7.0
    fit = fit_linear(values, classes, patients, seed=0)
    assert np.isfinite(fit.weight).all() and fit.weight[0, 2] == 0


def test_a_class_that_is_missing_is_named(manifest: Manifest, tmp_path: Path) -> None:
    lesions = [e for e in manifest.lesions if e.labels["malignant"] == 0]
    data = make_data(manifest, lesions, tasks=(MALIGNANCY,))
    with pytest.raises(TrainingError, match=r"no training lesion is malignant.*\(malignancy\)"):
        fit_head(make_model((MALIGNANCY,)), data, MALIGNANCY, views=VIEWS, precision="fp32", seed=0)
