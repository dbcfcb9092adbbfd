"""docs/benchmarks.md and its figure, from what was measured."""

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contest import OURS, Bar, Contest, Outcome, spread

HEAD = """\
# Benchmarks

`make bench` makes this page. Contestants do the same work, each in a process of its own; in every
round each of them runs once, in another order. Numbers are medians, in brackets the lowest and the
highest of all rounds. Factors are ratios within a round, so that a machine that changes its pace
does not change them. Absolute numbers are of one machine and mean little elsewhere. In training
even the factors do: our networks are computed in bf16, which pays on processors with a matrix unit
(AMX); on others it is hardly faster than the peer's arithmetic.
The machine stands below each table.
"""


def write_page(names: Sequence[str], results: Path, docs: Path) -> None:
    """Writes the page and the figure from the measurements that there are."""
    lines = [HEAD, "![How many times better than each peer](images/benchmarks.svg)", ""]
    bars: list[tuple[str, float, list[float]]] = []
    for name in names:
        path = results / f"{name}.json"
        if not path.is_file():
            continue
        contest: Contest = importlib.import_module(f"benchmarks.{name}").CONTEST
        measured = json.loads(path.read_text(encoding="utf-8"))
        outcome = Outcome(values=measured["values"], facts=measured["facts"])
        lines += [*_section(contest, outcome, measured), ""]
        for bar in contest.bars:
            if bar.kind == "times":
                ratios = _ratios(contest, outcome, bar)
                title = f"{contest.measures[bar.measure][0]}, beside {bar.peer}"
                bars.append((f"{contest.name}: {title}", bar.factor, ratios))
    (docs / "benchmarks.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    _draw(bars, docs / "images" / "benchmarks.svg")


def _section(contest: Contest, outcome: Outcome, measured: dict[str, Any]) -> Iterator[str]:
    yield f"## {contest.title}"
    yield ""
    yield f"{contest.work[0].upper()}{contest.work[1:]}."
    for fact, value in outcome.facts.items():
        yield f"{fact[0].upper()}{fact[1:]}: {value}."
    yield ""
    units = [f"{name}, {unit}" for name, (unit, _) in contest.measures.items()]
    yield f"| contestant | {' | '.join(units)} |"
    yield f"| --- | {' | '.join('---' for _ in units)} |"
    for name, title in contest.contestants.items():
        found = outcome.values[name]
        cells = [spread(found[each]) if each in found else "–" for each in contest.measures]
        yield f"| {title} | {' | '.join(cells)} |"
    yield ""
    for bar in contest.bars:
        yield f"- {_verdict(contest, outcome, bar)}"
    yield ""
    yield (
        f"Made by `{measured['command']}` at commit `{measured['commit'][:12]}` on "
        f"{measured['machine']}; {contest.rounds} rounds, {contest.threads} thread"
        f"{'s' if contest.threads > 1 else ''} each."
    )


def _ratios(contest: Contest, outcome: Outcome, bar: Bar) -> list[float]:
    higher = contest.measures[bar.measure][1]
    return outcome.ratios(bar.measure, bar.peer, higher_is_better=higher)


def _verdict(contest: Contest, outcome: Outcome, bar: Bar) -> str:
    if bar.kind in ("limit", "floor"):
        found = outcome.values[OURS][bar.measure]
        unit = contest.measures[bar.measure][0]
        most = bar.kind == "limit"
        met = median(found) <= bar.factor if most else median(found) >= bar.factor
        asked = f"{'at most' if most else 'at least'} {bar.factor:g} {unit}"
        told = f"{bar.measure}: {spread(found)} {unit}"
        return f"{told}; asked for was {asked}: {'met' if met else '**not met**'}."
    peer = contest.contestants[bar.peer]
    if bar.kind == "share":
        shares = [1 / ratio for ratio in _ratios(contest, outcome, bar)]
        told = f"{bar.measure}: {100 * median(shares):.1f} % of that of {peer}"
        met, asked = median(shares) <= bar.factor, f"at most {100 * bar.factor:g} %"
    else:
        ratios = _ratios(contest, outcome, bar)
        told = f"{bar.measure}: {spread(ratios)} times as good as {peer}"
        met, asked = median(ratios) >= bar.factor, f"{bar.factor:g} times"
    return f"{told}; asked for was {asked}: {'met' if met else '**not met**'}."


def _draw(bars: Sequence[tuple[str, float, list[float]]], path: Path) -> None:
    """A dot a round on a logarithmic axis, and a tick where the bar is."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "medmtl"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.8 + 0.5 * len(bars)))
    for row, (_, factor, ratios) in enumerate(bars):
        axes.plot(ratios, [row] * len(ratios), "o", color="#123f6b", alpha=0.5)
        axes.plot([median(ratios)], [row], "|", color="#123f6b", markersize=18)
        axes.plot([factor], [row], "x", color="#9a2c0b", markersize=9)
    axes.axvline(1, color="#555555", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(bars)), [title for title, _, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(
        "times better than the peer (dots: rounds, line: median, x: asked for)", fontsize=8
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
