"""What is told of a file of published weights, and of its import; lines of 80 columns."""

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Size

from medmtl.build.encoder_guess import UNSEEN
from medmtl.build.published_file import PublishedFile
from medmtl.config_encoder import Encoder as EncoderKnobs
from medmtl.models.published import Match

ENOUGH = 0.9  # of an encoder's tensors
WIDTH, LABEL = 80, 13  # columns
MOST = 6  # of a list that is shown


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An encoder of this project that a file may hold."""

    knobs: EncoderKnobs
    match: Match


def describe_file(file: PublishedFile, candidates: Sequence[Candidate]) -> str:
    """What a file holds, which encoder's weights they may be, and the settings of that.

    Args:
        file: Of weights.
        candidates: The encoders that it resembles, the best first.
    """
    numbers = sum(value.numel() for value in file.tensors.values())
    seen = (
        "made by medmtl; it says which scans its weights have seen, so name it in start.weights "
        "as it is"
        if file.says_what_it_saw
        else "it does not say which scans its weights have seen"
    )
    nested = [key for key in file.keys if key not in file.tensors]
    kind = f"groups: {first_few(nested)}" if nested else "tensors by name, in no group"
    lines = [
        *told("file", f"{file.name}, {file.size_bytes / 1e6:.1f} MB"),
        *told("holds", kind),
        *told("tensors", f"{len(file.tensors)}, {numbers:,} numbers"),
        *told("names begin", _groups(file.tensors)),
        *told("has seen", seen),
    ]
    return "\n".join([*lines, *_describe(candidates)])


def _describe(candidates: Sequence[Candidate]) -> Iterator[str]:
    if not candidates:
        yield from told("encoders", "no encoder of this project resembles it")
        return
    for number, each in enumerate(candidates):
        text = f"{each.knobs.kind}: {percent(each.match)} of {each.match.wanted} tensors found"
        yield from told("encoders" if number == 0 else "", text)
    best = candidates[0]
    if best.match.share < ENOUGH:
        yield from told("", f"less than {100 * ENOUGH:.0f} %: refused without --partly")
    yield ""
    yield from _yaml(best.knobs)


def _yaml(knobs: EncoderKnobs) -> Iterator[str]:
    """The lines of a configuration; what is as by default is left out unless it is a guess."""
    unseen = UNSEEN.get(knobs.kind, {})
    values = {
        name: value
        for name, value in knobs.model_dump(mode="json").items()
        if name in {"kind", *unseen} or name in knobs.model_dump(exclude_defaults=True)
    }
    yield "encoder:"
    for name, value in values.items():
        written = value if isinstance(value, str) else json.dumps(value)
        yield f"  {name}: {written}" + (f"  # {unseen[name]}" if name in unseen else "")


def what_became(kind: str, match: Match) -> Iterator[str]:
    """What of an encoder and of a file found its like, and what became of the rest."""
    text = f"{match.found} of {match.wanted} tensors of {kind}"
    under = f", in the file under {match.prefix}" if match.prefix else ""
    yield from told("matched", text + under)
    if match.summed:
        yield from told(
            "added up",
            f"{first_few(match.summed)}: the file's network sees images of several channels; a CT "
            "is shown to each of them alike",
        )
    others = [
        f"{name} ({sides(there)} in the file, {sides(shape)} here)"
        for name, (there, shape) in match.misshapen.items()
    ]
    for label, names in (("other shape", others), ("missing", match.missing)):
        if names:
            yield from told(label, f"{len(names)} stay random: {first_few(names)}")
    if match.own:
        text = f"{len(match.own)} that no published network has stay random: {first_few(match.own)}"
        yield from told("our own", text)
    if match.unused:
        unused = dict.fromkeys(match.unused)
        yield from told("not used", f"{len(unused)} tensors of the file: {_groups(unused)}")


def _groups(names: Mapping[str, Any]) -> str:
    """What names begin with, after what all of them begin with, and how many each."""
    parts = [name.split(".") for name in names]
    depth = 0
    while all(len(each) > depth + 1 and each[depth] == parts[0][depth] for each in parts):
        depth += 1
    common = "".join(f"{part}." for part in parts[0][:depth])
    counts = Counter(each[depth] for each in parts)
    shown = [f"{name} ({count})" for name, count in counts.most_common()]
    return f"{common} then {first_few(shown)}" if common else first_few(shown)


def first_few(texts: Iterable[str], most: int = MOST) -> str:
    """The first of some texts as they come, and how many more there are."""
    texts = list(texts)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def percent(match: Match) -> str:
    """Rounded down: 100 % is all."""
    return f"{int(100 * match.share)} %"


def sides(shape: Size) -> str:
    """A shape in words."""
    return " x ".join(map(str, shape)) or "a number"


def told(label: str, text: str) -> list[str]:
    """A text beside its label."""
    first = f"{label + ':' if label else '':<{LABEL}}"
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=" " * LABEL, break_on_hyphens=False
    )
