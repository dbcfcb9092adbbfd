"""How far a pretraining is, for whoever watches: one process of several tells it."""

import pytest

from medmtl.reporting.pretraining_display import StepDisplay

ROW = {"step": 20, "loss": 1.23456, "effective_rank": 17.6}


def test_without_a_terminal_the_first_and_the_last_look_are_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with StepDisplay(60, watched=True) as display:
        display.say("60 steps")
        for step in (20, 40, 60):
            display.show([{**ROW, "step": step}], 0.034)

    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "60 steps",
        "step 20 of 60: loss 1.235, rank 18, waiting 3 %",
        "step 60 of 60: loss 1.235, rank 18, waiting 3 %",
    ]


def test_a_terminal_has_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with StepDisplay(60, watched=True) as display:
        display.show([ROW], 0.034)

    assert "step 20/60" in capsys.readouterr().out.replace("\x1b[", "")


def test_the_other_processes_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with StepDisplay(60, watched=False) as display:
        display.say("60 steps")
        display.show([{**ROW, "step": 60}], 0.0)

    assert capsys.readouterr().out == ""
