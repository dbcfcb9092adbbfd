import pytest
import torch

from medmtl.training.norm_averages import renew_averages
from tests.synthetic import write_cohort
from tests.training.tiny import BOTH, make_data, make_model, make_settings


def test_averages_are_those_of_the_training_windows_and_nothing_else_changes(tmp_path) -> None:
    data = make_data(write_cohort(tmp_path / "cohort", patients=8, side=12))
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    momenta = [getattr(each, "momentum", None) for each in model.modules()]
    renew_averages(model, data, {}, BOTH, make_settings(batch_size=4))
    after = model.state_dict()
    renewed = [name for name in after if not torch.equal(before[name], after[name])]
    assert renewed and all(name.startswith("encoder.") for name in renewed)
    assert {name.rsplit(".", 1)[1] for name in renewed} == {
        "running_mean", "running_var", "num_batches_tracked",
    }  # fmt: skip
    assert [getattr(each, "momentum", None) for each in model.modules()] == momenta
    assert not any(each.training for each in model.modules())

    norm = model.encoder.stem[1].norms["window_slab"]
    given = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.no_grad():
        model(data.batch(torch.arange(len(data)), "slab").image, ["malignancy"])
    handle.remove()
    seen = given[0].mean((0, 2, 3, 4))
    assert norm.running_mean.numpy() == pytest.approx(seen.numpy(), abs=0.05)


def test_renewing_again_gives_the_same_bits(tmp_path) -> None:
    data = make_data(write_cohort(tmp_path / "cohort", patients=8, side=12))
    model = make_model()
    renew_averages(model, data, {}, BOTH, make_settings())
    first = {name: value.clone() for name, value in model.state_dict().items()}
    torch.rand(5)
    renew_averages(model, data, {}, BOTH, make_settings())
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())
