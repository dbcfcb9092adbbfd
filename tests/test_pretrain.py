"""`medmtl pretrain`: an encoder from unlabelled scans, the same bits whatever happens."""

import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from tests.small_experiment import command, environment, run_command
from tests.small_pretraining import GENESIS, MASKED, MOCO, MOCO_V3, SIMCLR, write_pretraining

# Timing is no result.
TABLE = "steps.csv"


def load(path):
    return torch.load(path, weights_only=True)


def same_weights(one, other):
    a, b = load(one)["state"], load(other)["state"]
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("methods", [(MOCO,), (SIMCLR, GENESIS), (MASKED,), (MOCO, MASKED)])
def test_methods_and_their_sums_leave_an_encoder_that_says_what_it_saw(tmp_path, medmtl, methods):
    config = write_pretraining(tmp_path, *methods)

    answer = medmtl("pretrain", config)

    assert answer.code == 0, answer.err
    run = tmp_path / "runs" / "small"
    assert str(run / "encoder.pt") in answer.out
    table = pd.read_csv(run / TABLE)
    assert list(table["step"]) == [2, 4, 6]
    for method in methods:
        assert table[f"loss_{method.partition(':')[0]}"].notna().all()
    saved = load(run / "encoder.pt")
    assert saved["exposure"]["contents"]
    restoring = {name.partition(":")[0] for name in methods} & {"restore", "masked"}
    found = {re.match(r"encoder|decoder\.\w+", name).group() for name in saved["state"]}
    assert found == {"encoder"} | {f"decoder.{name}" for name in restoring}
    assert not (run / "checkpoint.pt").exists()


def test_a_killed_pretraining_goes_on_and_ends_with_the_same_bits(tmp_path, medmtl, monkeypatch):
    config = write_pretraining(tmp_path, MOCO, GENESIS)
    monkeypatch.chdir(tmp_path)
    more = ["--set", "training.steps=40"]
    whole = medmtl("pretrain", config, "--set", "name=whole", *more)
    assert whole.code == 0, whole.err

    killed = tmp_path / "runs" / "small" / "checkpoint.pt"
    process = subprocess.Popen(
        command("pretrain", config, *more),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not killed.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "runs" / "small" / "done.json").exists()
    again = medmtl("pretrain", config, *more)

    assert again.code == 0, again.err
    one, other = tmp_path / "runs" / "whole", tmp_path / "runs" / "small"
    assert same_weights(one / "encoder.pt", other / "encoder.pt")
    assert (one / TABLE).read_bytes() == (other / TABLE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "accumulate"),
    [(MOCO, 1), (MOCO_V3, 1), (SIMCLR, 1), (GENESIS, 1), (MASKED, 1), (GENESIS, 2)],
)
def test_two_processes_learn_what_one_learns_at_the_same_batch(tmp_path, method, accumulate):
    config = write_pretraining(tmp_path, method)
    groups = ["--set", "encoder.norm=group", "--set", "training.batch_size=8"]
    groups += ["--set", f"training.accumulate={accumulate}"]
    alone = run_command("pretrain", config, "--set", "name=alone", *groups, cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    port = f"--master-port={20000 + os.getpid() % 20000}"
    both = subprocess.run(
        [*torchrun, port, *command("pretrain", config, *groups)[1:]],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert both.returncode == 0, both.stderr
    one = pd.read_csv(tmp_path / "runs" / "alone" / TABLE)
    two = pd.read_csv(tmp_path / "runs" / "small" / TABLE)
    assert list(one["step"]) == list(two["step"])
    pd.testing.assert_series_equal(one["loss"], two["loss"], rtol=1e-4)
    seen = [
        load(tmp_path / "runs" / name / "encoder.pt")["exposure"] for name in ("alone", "small")
    ]
    assert len(seen[0]["contents"]) == len(seen[1]["contents"])


def test_a_finished_pretraining_is_not_begun_again(tmp_path, medmtl):
    config = write_pretraining(tmp_path)
    medmtl("pretrain", config)
    encoder = tmp_path / "runs" / "small" / "encoder.pt"
    before = encoder.stat().st_mtime_ns

    answer = medmtl("pretrain", config)

    assert answer.code == 0
    assert encoder.stat().st_mtime_ns == before


def test_another_configuration_under_the_same_name_is_refused(tmp_path, medmtl):
    config = write_pretraining(tmp_path)
    medmtl("pretrain", config)

    answer = medmtl("pretrain", config, "--set", "training.learning_rate=0.01")

    assert answer.code == 2
    assert "small was begun with another configuration" in answer.err


def test_accumulating_a_batch_in_parts_is_allowed_for_what_does_not_compare(tmp_path, medmtl):
    config = write_pretraining(tmp_path, MASKED)
    groups = ("--set", "encoder.norm=group")
    medmtl("pretrain", config, *groups)
    parts = ("--set", "name=parts", "--set", "training.accumulate=2")
    told = medmtl("pretrain", config, *groups, *parts)
    assert "batch norm" not in told.out + told.err

    losses = [pd.read_csv(tmp_path / "runs" / name / TABLE)["loss"] for name in ("small", "parts")]
    pd.testing.assert_series_equal(*losses, rtol=2e-2)


def test_that_batch_norm_sees_parts_of_a_batch_is_told(tmp_path, medmtl):
    config = write_pretraining(tmp_path, MASKED)
    answer = medmtl("pretrain", config, "--set", "training.accumulate=2")
    assert "batch norm sees 2 of a batch's 4 places" in answer.out + answer.err


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("methods.moco.temprature=1", "no such key.*did you mean 'temperature'"),
        ("training.accumulate=3", "batch_size must be a multiple of accumulate"),
        ("views.size_mm=[6.0, 11.0, 12.0]", "views.size_mm"),
        ("pool=[{manifest: nowhere}]", "nowhere"),
        ("probe={manifest: cohort/manifest, label: colour}", "probe.label.*malignant"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(tmp_path, medmtl, monkeypatch, key, message):
    config = write_pretraining(tmp_path)
    monkeypatch.chdir(tmp_path)

    answer = medmtl("pretrain", config, "--set", key)

    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert re.search(message, answer.err, re.DOTALL), answer.err
    assert not (tmp_path / "runs").exists()


def test_a_probe_scores_the_encoder_on_labelled_lesions(tmp_path, medmtl, monkeypatch):
    config = write_pretraining(tmp_path, patients=24)
    monkeypatch.chdir(tmp_path)

    answer = medmtl(
        "pretrain", config, "--set", "probe={manifest: cohort/manifest, label: malignant, every: 3}"
    )

    assert answer.code == 0, answer.err
    table = pd.read_csv(tmp_path / "runs" / "small" / TABLE)
    probed = table[table["probe_linear_auc"].notna()]
    assert probed["step"].iloc[0] == 0, "what random weights tell"
    assert 3 in set(probed["step"])
    scores = probed.filter(like="probe_")
    assert list(scores) == ["probe_knn_auc", "probe_linear_auc", "probe_linear_auc_level_1"]
    assert scores.stack().between(0, 1).all()
