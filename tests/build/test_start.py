"""Heads that outline may begin with the decoder of a pretraining that restores scans."""

import pytest
import torch
from torch import nn

from medmtl.build.cell import build_cell
from medmtl.build.experiment import build_cross_validation, build_from_run
from medmtl.config_file import load_config
from tests.small_experiment import write_config
from tests.small_pretraining import GENESIS, MASKED, MOCO, write_pretraining


def pretrain(home, medmtl, *methods, norm="batch"):
    config = write_pretraining(home, *methods)
    answer = medmtl("pretrain", config, "--set", f"encoder.norm={norm}")
    assert answer.code == 0, answer.err
    return home / "runs" / "small" / "encoder.pt"


def experiment(home, start, norm="batch"):
    """The small experiment, whose arms begin with weights that may have seen its patients."""
    changes = [f"start.{key}={value}" for key, value in start.items()]
    changes += ["start.accept_seen=only a test", f"encoder.norm={norm}", "name=adapted"]
    return load_config(write_config(home), [*changes, "arms.class-only.set.start.decoder=null"])


def first_model(config):
    prepared = build_cross_validation(config)
    prepared.prepare()
    return build_cell(prepared.run, "joint_r0_f0").model


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_an_outline_head_begins_as_the_decoder_but_for_its_last_layer(tmp_path, medmtl, norm):
    weights = pretrain(tmp_path, medmtl, GENESIS, MASKED, norm=norm)
    state = torch.load(weights, weights_only=True)["state"]

    given = {"weights": weights, "decoder": "masked"}
    model = first_model(experiment(tmp_path, given, norm))

    head = model.heads["task_nodule"]
    kinds = {
        type(each) for each in head.modules() if isinstance(each, nn.BatchNorm3d | nn.GroupNorm)
    }
    assert kinds == {nn.BatchNorm3d if norm == "batch" else nn.GroupNorm}
    for name, value in head.state_dict().items():
        decoded = state[f"decoder.masked.{name}"]
        assert torch.equal(value, decoded) == (not name.startswith("output.")), name
    assert not torch.equal(
        state["decoder.masked.narrow.0.weight"], state["decoder.restore.narrow.0.weight"]
    )


def test_without_being_asked_heads_begin_at_random(tmp_path, medmtl):
    weights = pretrain(tmp_path, medmtl, MASKED)
    state = torch.load(weights, weights_only=True)["state"]

    model = first_model(experiment(tmp_path, {"weights": weights}))

    drawn = model.heads["task_nodule"].narrow[0].weight
    assert not torch.equal(drawn, state["decoder.masked.narrow.0.weight"])


def test_a_file_without_that_decoder_is_refused_before_anything_is_written(tmp_path, medmtl):
    weights = pretrain(tmp_path, medmtl, MOCO)
    config = write_config(tmp_path)

    answer = medmtl(
        "cross-validate", config, "--set", "name=adapted", "--set", "start.accept_seen=only a test",
        "--set", f"arms.joint.set.start.weights={weights}",
        "--set", "arms.joint.set.start.decoder=masked",
    )  # fmt: skip

    assert answer.code == 2
    assert "holds no decoder of 'masked'; it holds those of: no method" in answer.err
    assert not (tmp_path / "runs" / "adapted").exists()


def test_a_run_is_opened_again_when_the_weights_it_began_with_are_gone(tmp_path, medmtl):
    weights = pretrain(tmp_path, medmtl, MASKED)
    prepared = build_cross_validation(
        experiment(tmp_path, {"weights": weights, "decoder": "masked"})
    )
    prepared.prepare()
    weights.unlink()

    assert build_from_run(prepared.run.path).plan == prepared.plan


@pytest.mark.parametrize(
    ("arm", "method", "decoder", "message"),
    [
        ("joint", MOCO, "moco", "'moco' is no method that restores scans; here: none"),
        ("joint", MASKED, "mask", "'mask' is no method that restores scans; here: masked"),
        ("class-only", MASKED, "masked", "none of its heads outlines anything"),
    ],
)
def test_a_decoder_that_no_head_can_begin_with_is_refused_at_once(
    tmp_path, medmtl, arm, method, decoder, message
):
    pretraining = write_pretraining(tmp_path, method)
    config = write_config(tmp_path)

    answer = medmtl(
        "cross-validate", config,
        "--set", f"arms.{arm}.set.start.pretraining={pretraining}",
        "--set", f"arms.{arm}.set.start.decoder={decoder}",
    )  # fmt: skip

    assert answer.code == 2
    assert message in answer.err
    assert f"arms.{arm}" in answer.err
    assert not (tmp_path / "runs").exists()
