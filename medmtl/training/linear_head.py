"""A classification head fitted in one go on features that stay as they are.

Logistic regression on what the head pools, its strength chosen among patients of the training
part. On cohorts of a hundred patients this is the adaptation with the least to overfit.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from medmtl.data.dataset import LesionDataset
from medmtl.data.placement import Placement
from medmtl.data.tasks import ClassificationTask
from medmtl.errors import TrainingError
from medmtl.models.heads import ClassificationHead
from medmtl.models.multitask import MultiTaskModel, Precision

BATCH = 64
FOLDS = 5
STRENGTHS = tuple(float(each) for each in np.logspace(-4, 2, 9))  # 1 / weight of the penalty
UNKNOWN_STRENGTH = STRENGTHS[3]  # 0.018: where patients are too few to choose
STILL = 1e-6  # a feature that varies less says nothing
LONGEST = 2000  # iterations

Views = Callable[[int], Sequence[Placement | None]]  # of a batch of so many lesions


@dataclass(frozen=True, kw_only=True)
class LinearFit:
    """A fitted head.

    Attributes:
        weight: Of each feature as it comes.
        bias: Of each output.
        strength: That was chosen; small means strongly regularised.
        log_loss: Of each of `STRENGTHS` on held-out training patients; empty if they were too
            few to hold any out.
    """

    weight: Float[np.ndarray, "outputs features"]
    bias: Float[np.ndarray, " outputs"]
    strength: float
    log_loss: list[float]


def fit_head(
    model: MultiTaskModel,
    data: LesionDataset,
    task: ClassificationTask,
    *,
    views: Views,
    precision: Precision,
    seed: int,
) -> LinearFit:
    """Fits one classification head of a model in place; nothing else of it changes.

    Args:
        model: Its encoder is used as in testing.
        data: Training lesions; those without the label are left out.
        task: Which head.
        views: That features are averaged over. A linear head's logit of averaged features is the
            average of its logits, so this is what testing with these views sees.
        precision: Of the encoder's arithmetic.
        seed: Of the folds that choose the strength.

    Raises:
        TrainingError: A class has no lesion.
    """
    targets, observed = data.targets(task)
    rows = torch.nonzero(observed)[:, 0]
    features = pooled_features(model, data, task, rows, views=views, precision=precision)
    patients = [data.manifest.scan(data.lesions[row].scan_id).patient_id for row in rows.tolist()]
    classes = targets[rows].numpy()
    missing = [name for n, name in enumerate(task.classes) if not (classes == n).any()]
    if missing:
        raise TrainingError(
            f"no training lesion is {', '.join(missing)}, so no head can be fitted ({task.name}); "
            "set a larger training.label_fraction, fewer folds, or leave the head out"
        )
    fit = fit_linear(features.double().numpy(), classes, patients, seed=seed)
    linear = _head(model, task).linear
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(fit.weight))
        linear.bias.copy_(torch.from_numpy(fit.bias))
    return fit


@torch.no_grad()
def pooled_features(
    model: MultiTaskModel,
    data: LesionDataset,
    task: ClassificationTask,
    rows: Int[Tensor, " lesions"],
    *,
    views: Views,
    precision: Precision,
) -> Float[Tensor, "lesions features"]:
    """What a head's last layer is given, averaged over views; the model is set to testing."""
    model.eval()
    chunks = []
    for some in rows.split(BATCH):
        placements = views(len(some))
        total: Tensor = torch.zeros(())
        for placement in placements:
            image = data.batch(some, task.window, placement).image
            with (
                _inputs_of(_head(model, task).linear) as given,
                torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
            ):
                model(image, [task.name])
            total = total + given[0].float() / len(placements)
        chunks.append(total)
    return torch.cat(chunks)


def fit_linear(
    features: Float[np.ndarray, "lesions features"],
    classes: Int[np.ndarray, " lesions"],
    patients: Sequence[str],
    *,
    seed: int,
) -> LinearFit:
    """Fits logistic regression (multinomial for three classes or more) on standardised features.

    The strength is that of the least log loss on held-out patients; of equals, the most
    regularised. The scaling is folded into weight and bias.
    """
    losses = _held_out_losses(features, classes, patients, seed)
    strength = STRENGTHS[int(np.argmin(losses))] if losses else UNKNOWN_STRENGTH
    mean, deviation = _scaling(features)
    weight, bias = _regress((features - mean) / deviation, classes, strength)
    weight = weight / deviation
    return LinearFit(weight=weight, bias=bias - weight @ mean, strength=strength, log_loss=losses)


def _held_out_losses(
    features: NDArray[np.float64],
    classes: NDArray[np.int64],
    patients: Sequence[str],
    seed: int,
) -> list[float]:
    """The log loss of each strength over all held-out lesions; none if nothing can be held out."""
    from scipy.special import log_softmax

    sums, count = np.zeros(len(STRENGTHS)), 0
    for fitted, held_out in _grouped_folds(classes, patients, seed):
        mean, deviation = _scaling(features[fitted])
        known, other = ((features[rows] - mean) / deviation for rows in (fitted, held_out))
        count += len(held_out)
        for place, strength in enumerate(STRENGTHS):
            weight, bias = _regress(known, classes[fitted], strength)
            logits = other @ weight.T + bias
            if logits.shape[1] == 1:  # class 0 has logit 0
                logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
            of_class = log_softmax(logits, axis=1)[np.arange(len(held_out)), classes[held_out]]
            sums[place] -= of_class.sum()
    return [float(each) / count for each in sums] if count else []


def _grouped_folds(
    classes: NDArray[np.int64], patients: Sequence[str], seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds of whole patients in which every class is left to be fitted."""
    from sklearn.model_selection import StratifiedGroupKFold

    present = np.unique(classes)
    owners = np.asarray(patients, dtype=object)
    fewest = min(len(set(owners[classes == each])) for each in present)
    if fewest < 2:
        return
    splitter = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for fitted, held_out in splitter.split(classes, classes, owners):
            if len(held_out) and len(np.unique(classes[fitted])) == len(present):
                yield fitted, held_out


def _regress(
    features: NDArray[np.float64], classes: NDArray[np.int64], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight and bias: one output for two classes, else one a class."""
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=strength, max_iter=LONGEST).fit(features, classes)
    return found.coef_, found.intercept_


def _scaling(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    deviation = features.std(axis=0)
    return features.mean(axis=0), np.where(deviation > STILL, deviation, 1.0)


def _head(model: MultiTaskModel, task: ClassificationTask) -> ClassificationHead:
    head = model.heads[f"task_{task.name}"]
    assert isinstance(head, ClassificationHead)
    return head


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what a module is given."""
    given: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        given.append(inputs[0])

    handle = module.register_forward_pre_hook(note)
    try:
        yield given
    finally:
        handle.remove()
