import torch

from medmtl.losses.balance import FixedWeights


def test_losses_are_added_with_their_weights() -> None:
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(5.0, requires_grad=True)
    total = FixedWeights({"a": 3.0, "b": 0.5, "unused": 9.0}).combine({"a": a, "b": b})
    total.backward()
    assert total.item() == 8.5
    assert (a.grad.item(), b.grad.item()) == (3.0, 0.5)


def test_a_task_without_a_label_leaves_the_other_s_gradient_alone() -> None:
    a = torch.tensor(2.0, requires_grad=True)
    total = FixedWeights({"a": 3.0, "b": 0.5}).combine({"a": a, "b": torch.zeros(())})
    total.backward()
    assert a.grad.item() == 3.0


def test_no_label_at_all_needs_no_gradient() -> None:
    total = FixedWeights({"a": 1.0, "b": 1.0}).combine({"a": torch.zeros(()), "b": torch.zeros(())})
    assert total.item() == 0 and not total.requires_grad
