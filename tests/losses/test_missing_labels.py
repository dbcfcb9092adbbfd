"""The project's promise, on a whole model: a missing label contributes exactly nothing."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medmtl.data.dataset import Batch
from medmtl.data.tasks import ClassificationTask, OrganTask, SegmentationTask, Task
from medmtl.losses.balance import FixedWeights
from tests.training.tiny import make_loss, make_model

CASES, SIZE = 4, (4, 8, 8)
NAMES = ("aorta", "heart", "spine")
CLASS = ClassificationTask(name="class", label="malignant", classes=("a", "b"), window="box")
LESION = SegmentationTask(name="lesion", structure="nodule", window="box")
ORGANS = OrganTask(name="organs", structures=NAMES, left_right_pairs=(), window="box")
TASKS: tuple[Task, ...] = (CLASS, LESION, ORGANS)
Gradients = dict[str, Tensor | None]
bits = st.lists(st.booleans(), min_size=CASES, max_size=CASES).map(torch.tensor)
organ_bits = st.lists(st.booleans(), min_size=CASES * len(NAMES), max_size=CASES * len(NAMES)).map(
    lambda each: torch.tensor(each).reshape(CASES, len(NAMES))
)


def batch(observed: dict[str, Tensor], seed: int = 0) -> Batch:
    """Noise, with random targets even where nothing was observed."""
    generator = torch.Generator().manual_seed(seed)

    def coins(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) < 0.4

    return Batch(
        image=torch.rand(CASES, 1, *SIZE, generator=generator) * 2 - 1,
        inside=coins(CASES, 1, *SIZE) | coins(CASES, 1, *SIZE),
        targets={
            "class": coins(CASES).long(),
            "lesion": coins(CASES, 1, *SIZE),
            "organs": coins(CASES, len(NAMES), *SIZE),
        },
        observed=observed,
    )


def everything() -> dict[str, Tensor]:
    return {
        "class": torch.ones(CASES, dtype=torch.bool),
        "lesion": torch.ones(CASES, dtype=torch.bool),
        "organs": torch.ones(CASES, len(NAMES), dtype=torch.bool),
    }


def gradients(
    given_batch: Batch,
    tasks: Sequence[Task] = TASKS,
    *,
    precision: torch.dtype = torch.float32,
) -> Gradients:
    """Of all parameters, as a training step makes them from a batch."""
    model = make_model(TASKS, dropout=0.0).train()
    names = [task.name for task in tasks]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        logits = model(given_batch.image, names)
    losses = {
        task.name: make_loss(task)(
            logits[task.name],
            given_batch.targets[task.name],
            observed=given_batch.observed[task.name],
            inside=given_batch.inside,
        )
        for task in tasks
    }
    total = FixedWeights(dict.fromkeys(names, 1.5)).combine(losses)
    if total.requires_grad:
        total.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def same(one: Gradients, other: Gradients, part: str = "") -> bool:
    """Whether two gradients agree in every bit, or are both not there."""
    names = [name for name in one if part in name]
    assert names
    return all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
        for a, b in ((one[name], other[name]) for name in names)
    )


def flipped(given_batch: Batch) -> Batch:
    """The same batch with every target that was not observed turned into its opposite."""
    observed, targets = given_batch.observed, given_batch.targets
    return Batch(
        image=given_batch.image,
        inside=given_batch.inside,
        targets={
            "class": torch.where(observed["class"], targets["class"], 1 - targets["class"]),
            "lesion": targets["lesion"] ^ ~observed["lesion"][:, None, None, None, None],
            "organs": targets["organs"] ^ ~observed["organs"][:, :, None, None, None],
        },
        observed=observed,
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@given(known=bits, outlined=bits, drawn=organ_bits)
@settings(max_examples=15, deadline=None)
def test_targets_that_were_not_observed_change_no_bit_of_any_gradient(
    precision, known, outlined, drawn
) -> None:
    one = batch({"class": known, "lesion": outlined, "organs": drawn})
    found = gradients(one, precision=precision)
    assert same(found, gradients(flipped(one), precision=precision))
    assert all(each is None or torch.isfinite(each).all() for each in found.values())


@pytest.mark.parametrize("absent", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_task_that_no_case_has_leaves_the_encoder_to_the_others(absent, precision) -> None:
    observed = everything()
    observed[absent.name] = torch.zeros_like(observed[absent.name])
    others = [task for task in TASKS if task is not absent]
    together = gradients(batch(observed), precision=precision)
    alone = gradients(batch(observed), others, precision=precision)
    assert same(together, alone)
    assert same(together, alone, "encoder.")
    of_head = [grad for name, grad in together.items() if f"task_{absent.name}." in name]
    assert of_head and all(grad is None for grad in of_head)
    assert any(grad is not None and grad.any() for grad in together.values())


@pytest.mark.parametrize("undrawn", range(len(NAMES)))
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_organ_that_no_case_has_leaves_its_own_outputs_alone(undrawn, precision) -> None:
    observed = everything()
    observed["organs"][:, undrawn] = False
    found = gradients(batch(observed), precision=precision)
    for kind in ("weight", "bias"):
        grad = found[f"heads.task_organs.output.{kind}"]
        assert grad is not None
        of_structure = grad.reshape(len(NAMES), -1)
        assert not of_structure[undrawn].any()
        others = [n for n in range(len(NAMES)) if n != undrawn]
        assert of_structure[others].any(1).all()


@given(known=bits, outlined=bits, drawn=organ_bits)
@settings(max_examples=15, deadline=None)
def test_gradients_of_logits_are_zero_exactly_where_nothing_was_observed(
    known, outlined, drawn
) -> None:
    one = batch({"class": known, "lesion": outlined, "organs": drawn})
    model = make_model(TASKS, dropout=0.0).train()
    logits = model(one.image, [task.name for task in TASKS])
    for each in logits.values():
        each.retain_grad()
    losses = {
        task.name: make_loss(task)(
            logits[task.name],
            one.targets[task.name],
            observed=one.observed[task.name],
            inside=one.inside,
        )
        for task in TASKS
    }
    total = FixedWeights(dict.fromkeys(losses, 1.0)).combine(losses)
    if total.requires_grad:
        total.backward()
    for name, each in logits.items():
        seen = one.observed[name]
        if each.grad is None:
            assert not seen.any()
            continue
        assert not each.grad[~seen].any()
        assert each.grad[seen].flatten(1).any(1).all()


def test_without_any_label_at_all_nothing_has_a_gradient() -> None:
    nothing = {name: torch.zeros_like(each) for name, each in everything().items()}
    assert all(grad is None for grad in gradients(batch(nothing)).values())


def test_one_drawn_organ_of_one_scan_teaches_alone() -> None:
    observed = everything()
    observed["class"][:] = observed["lesion"][:] = False
    observed["organs"][:] = False
    observed["organs"][0, 1] = True
    one = batch(observed)
    targets = {**one.targets, "organs": one.targets["organs"].clone()}
    targets["organs"][:, [0, 2]] = True  # drawn nowhere
    targets["organs"][1:, 1] = True  # drawn in the first case only
    other = Batch(image=one.image, inside=one.inside, targets=targets, observed=observed)
    assert same(gradients(one), gradients(other))
