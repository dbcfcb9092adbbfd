"""What pretraining saves in labels: AUC over the share of labels, over several runs.

Arms are named `<source>-<mode>-<percent>`, such as `moco-frozen-30`. Runs differ in their seed
alone: folds and test lesions are the same, so one resample of patients serves all. Nothing is
chosen on test lesions, and intervals are not adjusted for how many there are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from medmtl.errors import EvaluationError, some_of
from medmtl.evaluation.intervals import FEWEST_COMPUTED, Interval, Resampling, patient_bootstrap
from medmtl.evaluation.weighted import Statistic, Values, Weights, mean_of_fold_aucs

SCRATCH, CONTROL = "scratch", "padding"
PRETRAINED = ("moco", "genesis", "masked", "near")
SOURCES = (SCRATCH, *PRETRAINED, CONTROL)
MODES = ("full", "frozen", "gentle")
NAME = re.compile(rf"({'|'.join(SOURCES)})-({'|'.join(MODES)})-(100|[1-9][0-9]?)")
GOAL = f"{SCRATCH}-full-100"

DIFFERENCE = ["question", "first", "reference", "runs"]
DIFFERENCE += [*(field.name for field in fields(Interval)), "hypothesis", "answer"]
NEEDED = ["source", "mode", "first_measured", "last_measured", "runs"]
NEEDED += ["needed", "low", "high", "reached"]

Answer = Literal["met", "not met", "cannot tell"]
LEAST_GAIN = {"H1": 0.03, "H2": 0.0}
"""Of AUC: with 10 % of the labels over scratch with as few; with 30 % over scratch with all."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A place on a curve.

    Attributes:
        source: Where the weights come from; "near" is MoCo on views that keep a lesion and its
            size, "padding" the control, from scratch.
        mode: "full" where the whole network learns, "frozen" where the encoder does not, "gentle"
            where it does slowly, after the heads.
        fraction: Share of the training patients whose labels are used, above 0 to 1.
    """

    arm: str
    source: str
    mode: str
    fraction: float


@dataclass(frozen=True, kw_only=True)
class LabelEfficiency:
    """What was found on labelled lesions; estimates have the columns of an `Interval`.

    Attributes:
        runs: Tables given; an arm may have fewer.
        arms: A `Point` a row, with the mean over `runs` and folds of the AUC, `by_run`, and
            `sd_over_runs`: the interval leaves out what training again changes.
        differences: `first` minus `reference` over the `runs` that both have, by `question`:
            "pretraining" (minus scratch, same labels), "freezing" (minus the whole network,
            same source and labels), "control" (scratch minus padding) and "all labels" (with
            30 %, minus scratch with all); `hypothesis` and its `answer` where it has one.
        labels_needed: By `source` and `mode`, with which share a curve reaches `GOAL`. Values
            equal to `first_measured` mean "at most", infinity means not up to
            `last_measured`; `reached` is the share of resamples that get there.
        left_out: `arm`, `run` from 1 and the `folds` without predictions; none of it is used.
        not_of_curves: Arms of other names, such as baselines.
    """

    task: str
    lesions: int
    positives: int
    patients: int
    folds: int
    runs: int
    arms: pd.DataFrame
    differences: pd.DataFrame
    labels_needed: pd.DataFrame
    left_out: pd.DataFrame
    not_of_curves: tuple[str, ...]


def parse_arm(arm: str) -> Point | None:
    """Reads `<source>-<mode>-<percent>`; None for another name, such as a baseline's."""
    if found := NAME.fullmatch(arm):
        source, mode, percent = found.groups()
        return Point(arm=arm, source=source, mode=mode, fraction=int(percent) / 100)
    return None


def measure_label_efficiency(
    tables: Sequence[pd.DataFrame], *, task: str, resampling: Resampling, folds: int | None = None
) -> LabelEfficiency:
    """Measures what has finished; a run of an arm counts with all its folds or not at all.

    Args:
        tables: The rows of out_of_fold.csv, a table a run.
        task: A classification with one output.
        resampling: Of patients within their folds, the same for everything.
        folds: How many were planned; None takes as many as any arm has.

    Raises:
        EvaluationError: No arm has finished; a lesion has another patient, fold or label in
            another arm or run, or a fold is predicted in part.
        LeakageError: A patient lies in two folds.
    """
    rows = pd.concat([t[t["task"] == task].assign(run=run) for run, t in enumerate(tables, 1)])
    of_curves = rows["arm"].map(lambda arm: parse_arm(str(arm)) is not None).astype(bool)
    others, rows = rows.loc[~of_curves, "arm"].unique(), rows[of_curves]
    cohort = _cohort(rows, folds)
    statistics, left_out = _finished(rows, cohort)
    curves = _Curves(
        cohort=cohort,
        resampling=resampling,
        points=sorted(
            filter(None, map(parse_arm, statistics)),
            key=lambda p: (SOURCES.index(p.source), MODES.index(p.mode), p.fraction),
        ),
        aucs=_drawn(statistics, cohort, resampling),
    )
    return LabelEfficiency(
        task=task,
        lesions=len(cohort),
        positives=int(cohort["target"].sum()),
        patients=cohort["patient_id"].nunique(),
        folds=cohort["fold"].nunique(),
        runs=len(tables),
        arms=pd.DataFrame(curves.arms()),
        differences=pd.DataFrame(curves.differences(), columns=DIFFERENCE),
        labels_needed=pd.DataFrame(curves.labels_needed(), columns=NEEDED),
        left_out=pd.DataFrame(left_out, columns=["arm", "run", "folds"]),
        not_of_curves=tuple(sorted(map(str, others))),
    )


def judge_hypothesis(found: Interval, *, least: float) -> Answer:
    """Met: at least `least`, with the interval above 0. Not met: the interval lies below it."""
    if found.estimate is None or found.low is None or found.high is None:
        return "cannot tell"
    if found.estimate >= least and found.low > 0:
        return "met"
    return "not met" if found.high < least else "cannot tell"


def reaching_fraction(
    fractions: Sequence[float], gain: Float[np.ndarray, "fractions resamples"]
) -> Values:
    """Where a gain first is 0 or more: infinity for never, NaN where a gain is not known.

    Args:
        fractions: Shares of labels, rising. Between them the gain is taken as straight over
            the logarithm of the share.
        gain: Of AUC over the goal, at each share.
    """
    place, found = np.log(fractions), np.full(gain.shape[1], np.inf)
    for left in reversed(range(len(fractions) - 1)):
        rises = (gain[left] < 0) & (gain[left + 1] >= 0)
        below, above = gain[left, rises], gain[left + 1, rises]
        step = below / (below - above) * (place[left + 1] - place[left])
        found[rises] = np.exp(place[left] + step)
    found[gain[0] >= 0] = fractions[0]
    found[np.isnan(gain).any(axis=0)] = np.nan
    return found


@dataclass(frozen=True, kw_only=True)
class _Curves:
    """AUCs by arm and run: on all data first, then on every resample as it is drawn."""

    cohort: pd.DataFrame
    resampling: Resampling
    points: Sequence[Point]
    aucs: Mapping[str, Mapping[int, Values]]

    def arms(self) -> Iterator[dict[str, Any]]:
        for point in self.points:
            by_run = {run: float(values[0]) for run, values in self.aucs[point.arm].items()}
            auc = self._interval(self._mean(point.arm, [*by_run]), "AUC", len(by_run))
            more = {"runs": len(by_run), "sd_over_runs": pd.Series(by_run).std(), "by_run": by_run}
            yield asdict(point) | asdict(auc) | more

    def differences(self) -> Iterator[list[Any]]:
        for point in self.points:
            for question, hypothesis, reference in _comparisons(point):
                gain, runs = self._gain(point.arm, reference)
                if runs:
                    found = self._interval(gain, "paired difference of AUC", runs)
                    answer = hypothesis and judge_hypothesis(found, least=LEAST_GAIN[hypothesis])
                    names = [question, point.arm, reference, runs]
                    yield [*names, *asdict(found).values(), hypothesis, answer]

    def labels_needed(self) -> Iterator[list[Any]]:
        for source, mode in product(PRETRAINED, MODES):
            curve = [p for p in self.points if (p.source, p.mode) == (source, mode)]
            found = [(point.fraction, *self._gain(point.arm, GOAL)) for point in curve]
            if known := [each for each in found if each[2]]:
                shares, gains, runs = zip(*known, strict=True)
                needed = self._range(reaching_fraction(shares, np.stack(gains)))
                yield [source, mode, shares[0], shares[-1], min(runs), *needed]

    def _range(self, share: Values) -> list[float]:
        """Order statistics, for infinity cannot be averaged."""
        drawn = np.sort(share[1:][~np.isnan(share[1:])])
        if len(drawn) < FEWEST_COMPUTED * self.resampling.samples:
            return [share[0], np.nan, np.nan, np.nan]
        tail = int((1 - self.resampling.level) / 2 * (len(drawn) - 1))
        return [share[0], drawn[tail], drawn[-1 - tail], np.isfinite(drawn).mean()]

    def _gain(self, arm: str, reference: str) -> tuple[Values, int]:
        """Arm minus reference, and the number of runs that both have."""
        runs = [run for run in self.aucs[arm] if run in self.aucs.get(reference, {})]
        return self._mean(arm, runs) - self._mean(reference, runs), len(runs)

    def _mean(self, arm: str, runs: Sequence[int]) -> Values:
        aucs = [self.aucs[arm][run] for run in runs]
        return np.asarray(np.mean(aucs, axis=0)) if runs else np.empty(0)

    def _interval(self, values: Values, what: str, runs: int) -> Interval:
        """Hands `patient_bootstrap` values that are known, in the order of its resamples."""
        left = iter(values)
        return patient_bootstrap(
            lambda weights: np.array([next(left) for _ in weights]),
            self.cohort["patient_id"].to_numpy(),
            resampling=self.resampling,
            strata=self.cohort["fold"].to_numpy(),
            detail=f"; {what}, mean over folds ({self.cohort['fold'].nunique()}) and runs ({runs})",
        )


def _comparisons(point: Point) -> Iterator[tuple[str, str, str]]:
    """The question, its hypothesis where it has one, and the arm to compare with."""
    percent = round(100 * point.fraction)
    if point.source in PRETRAINED:
        yield "pretraining", "H1" if percent == 10 else "", f"{SCRATCH}-full-{percent}"
    if point.mode == "frozen":
        yield "freezing", "", f"{point.source}-full-{percent}"
    if (point.source, point.mode) == (SCRATCH, "full"):
        yield "control", "", f"{CONTROL}-full-{percent}"
    if percent == 30 and point.source != CONTROL:
        yield "all labels", "H2" if point.source in PRETRAINED else "", GOAL


def _cohort(rows: pd.DataFrame, folds: int | None) -> pd.DataFrame:
    """The labelled lesions, in folds with both classes: alike in every run and arm."""
    if rows["output"].nunique() != 1 or rows["fold"].nunique() < (folds or 1):
        got = f"{rows['output'].nunique()} outputs, {rows['fold'].nunique()} folds"
        raise EvaluationError(f"curves need 1 output and {folds or 'all'} folds, got {got}")
    facts = rows[["lesion_id", "patient_id", "fold", "target"]].drop_duplicates()
    differs = facts.loc[facts["lesion_id"].duplicated(), "lesion_id"]
    if len(differs):
        which = some_of(differs)
        raise EvaluationError(f"another patient, fold or label in another arm or run: {which}")
    known = facts[facts["target"].notna()]
    both = known.groupby("fold")["target"].transform("nunique") == 2
    return known[both].sort_values("lesion_id", ignore_index=True)


def _finished(
    rows: pd.DataFrame, cohort: pd.DataFrame
) -> tuple[dict[str, dict[int, Statistic]], list[tuple[str, int, str]]]:
    """The AUC of every arm and run that is complete, and what is not."""
    target, fold = cohort["target"].to_numpy(float), cohort["fold"].to_numpy()
    found: dict[Any, dict[Any, Statistic]] = {}
    left_out: list[tuple[Any, Any, str]] = []
    for (arm, run), of_run in rows.groupby(["arm", "run"]):
        twice = of_run["lesion_id"].duplicated()
        scores = of_run[~twice].set_index("lesion_id")["prediction"]
        score = scores.reindex(cohort["lesion_id"]).to_numpy(float)
        lacking, tested = ({*fold[which]} for which in (np.isnan(score), ~np.isnan(score)))
        if twice.any() or lacking & tested:
            parts = f"{twice.sum()} lesions twice, folds in part: {some_of(lacking & tested)}"
            raise EvaluationError(f"{arm}, run {run}: {parts}; predict each lesion once")
        if lacking:
            left_out.append((arm, run, " ".join(map(str, sorted(lacking)))))
        else:
            found.setdefault(arm, {})[run] = mean_of_fold_aucs(target, score, fold)
    if not found or cohort.empty:
        raise EvaluationError("no arm has finished all its folds in any run, with both classes")
    return found, left_out


def _drawn(
    statistics: Mapping[str, Mapping[int, Statistic]], cohort: pd.DataFrame, resampling: Resampling
) -> dict[str, dict[int, Values]]:
    """Every statistic on all data and on each resample, which are drawn once."""
    every = [statistic for runs in statistics.values() for statistic in runs.values()]
    blocks: list[Float[np.ndarray, "statistics resamples"]] = []

    def keep(weights: Weights) -> Values:
        blocks.append(np.stack([each(weights) for each in every]))
        return np.zeros(len(weights))

    patients, folds = cohort["patient_id"].to_numpy(), cohort["fold"].to_numpy()
    patient_bootstrap(keep, patients, resampling=resampling, strata=folds)
    values = iter(np.concatenate(blocks, axis=1))
    return {arm: {run: next(values) for run in runs} for arm, runs in statistics.items()}
