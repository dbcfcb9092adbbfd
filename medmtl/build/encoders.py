"""Published encoders: what a file holds, and how it becomes weights to begin with here."""

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Size

from medmtl.build.encoder_guess import UNSEEN, guess_knobs
from medmtl.build.learning import build_encoder
from medmtl.build.published_file import PublishedFile, read_published
from medmtl.build.start import ENCODER
from medmtl.config_encoder import Encoder as EncoderKnobs
from medmtl.config_file import load_config, load_pretraining
from medmtl.data.contamination.exposure import Exposure
from medmtl.errors import ConfigError, some_of
from medmtl.models.published import Match, laid_on, match_names
from medmtl.training.checkpoint import save_tensors

ENOUGH = 0.9  # of an encoder's tensors
WIDTH, LABEL = 80, 13  # columns
MOST = 6  # of a list that is shown
KNOBS: TypeAdapter[EncoderKnobs] = TypeAdapter(EncoderKnobs)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An encoder of this project that a file may hold."""

    knobs: EncoderKnobs
    match: Match


def read_encoder_knobs(path: Path) -> EncoderKnobs:
    """The encoder of a configuration, be it of an experiment or of a pretraining.

    Raises:
        ConfigError: It is neither; the mistakes of the one that it is nearer to.
    """
    faults = []
    for load in (load_config, load_pretraining):
        try:
            return load(path).encoder
        except ConfigError as error:
            faults.append(error)
    raise min(faults, key=lambda error: str(error).count("\n"))


def find_candidates(file: PublishedFile) -> list[Candidate]:
    """The encoders that a file resembles, each at its most alike settings; the best first."""
    shapes = {name: value.shape for name, value in file.tensors.items()}
    found: dict[str, Candidate] = {}
    for guess in guess_knobs(shapes):
        try:
            knobs = KNOBS.validate_python(guess)
        except ValidationError:
            continue  # a network of this kind that is not offered here
        encoder = build_encoder(knobs)
        one = Candidate(knobs=knobs, match=match_names(file.tensors, encoder.state_dict()))
        before = found.get(knobs.kind)
        if before is None or one.match.share > before.match.share:
            found[knobs.kind] = one
    return sorted(found.values(), key=lambda each: (-each.match.share, -each.match.wanted))


def inspect_weights(path: Path) -> str:
    """Describes a file of weights, and which encoder's they may be; text of 80 columns.

    Raises:
        ConfigError: It cannot be read.
    """
    file = read_published(path)
    numbers = sum(value.numel() for value in file.tensors.values())
    seen = (
        "made by medmtl; it says which scans its weights have seen, so name it in start.weights "
        "as it is"
        if file.says_what_it_saw
        else "it does not say which scans its weights have seen"
    )
    nested = [key for key in file.keys if key not in file.tensors]
    kind = f"groups: {_first(nested)}" if nested else "tensors by name, in no group"
    lines = [
        *_told("file", f"{file.name}, {path.stat().st_size / 1e6:.1f} MB"),
        *_told("holds", kind),
        *_told("tensors", f"{len(file.tensors)}, {numbers:,} numbers"),
        *_told("names begin", _groups(file.tensors)),
        *_told("has seen", seen),
    ]
    return "\n".join([*lines, *_describe(find_candidates(file))])


def _describe(candidates: Sequence[Candidate]) -> Iterator[str]:
    if not candidates:
        yield from _told("encoders", "no encoder of this project resembles it")
        return
    for number, each in enumerate(candidates):
        text = f"{each.knobs.kind}: {_percent(each.match)} of {each.match.wanted} tensors found"
        yield from _told("encoders" if number == 0 else "", text)
    best = candidates[0]
    if best.match.share < ENOUGH:
        yield from _told("", f"less than {100 * ENOUGH:.0f} %: refused without --partly")
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


def import_encoder(path: Path, *, config: Path, out: Path, seen: str, partly: bool) -> str:
    """Writes weights that others published as an encoder to begin with.

    Args:
        path: Of the published file.
        config: Whose encoder it is; only that part of it is looked at.
        out: The checkpoint; replaced if it is there.
        seen: What is known of the scans that the weights have seen, in words.
        partly: Whether tensors that are not found may stay random.

    Raises:
        ConfigError: Something cannot be read, or the weights are of another encoder.
        RunError: The checkpoint cannot be written.

    Returns:
        What was found, and what was not; text of 80 columns.
    """
    if not seen.strip():
        raise ConfigError("--seen: say in words which scans the weights have seen")
    knobs = read_encoder_knobs(config)
    file = read_published(path)
    if file.says_what_it_saw:
        raise ConfigError(
            f"{file.name}: was made by medmtl and says which scans it has seen, which an import "
            "would forget; name it in start.weights as it is"
        )
    torch.manual_seed(0)  # what stays random is the same each time
    encoder = build_encoder(knobs)
    match = match_names(file.tensors, encoder.state_dict())
    _require_enough(file, knobs.kind, match, partly=partly)
    _require_finite(file, match)
    encoder.load_state_dict(laid_on(match, file.tensors), strict=False)
    exposure = Exposure(salt=file.digest[:32], contents=frozenset(), note=seen.strip())
    save_tensors(
        out,
        {
            "state": {ENCODER + name: value for name, value in encoder.state_dict().items()},
            "exposure": exposure.to_dict(),
            "made_of": knobs.model_dump_json(),
            "imported": {"file": file.name, "sha256": file.digest},
        },
    )
    return "\n".join([*_what_became(knobs.kind, match), *_told("encoder", str(out))])


def _require_enough(file: PublishedFile, kind: str, match: Match, *, partly: bool) -> None:
    if not match.sources:
        raise ConfigError(f"{file.name}: holds nothing of {kind}; see 'medmtl encoder inspect'")
    if partly or (match.share >= ENOUGH and not match.misshapen):
        return
    other = [
        f"{name}: {_sides(there)} in the file, {_sides(shape)} here"
        for name, (there, shape) in match.misshapen.items()
    ]
    why = f"; of another shape: {_first(other, 3)}" if other else ""
    lacking = f"; not in the file: {_first(match.missing, 3)}" if match.missing else ""
    raise ConfigError(
        f"{file.name}: {_percent(match)} of {match.wanted} tensors of {kind} were found"
        f"{why}{lacking}; give 'encoder' the settings that 'medmtl encoder inspect' shows, or "
        "let the others stay random with --partly"
    )


def _require_finite(file: PublishedFile, match: Match) -> None:
    spoiled = [
        source for source in match.sources.values() if not file.tensors[source].isfinite().all()
    ]
    if spoiled:
        raise ConfigError(
            f"{file.name}: not all is finite in {some_of(spoiled, 3)}; download it again, or use "
            "another"
        )


def _what_became(kind: str, match: Match) -> Iterator[str]:
    text = f"{match.found} of {match.wanted} tensors of {kind}"
    under = f", in the file under {match.prefix}" if match.prefix else ""
    yield from _told("matched", text + under)
    if match.summed:
        yield from _told(
            "added up",
            f"{_first(match.summed)}: the file's network sees images of several channels; a CT "
            "is shown to each of them alike",
        )
    others = [
        f"{name} ({_sides(there)} in the file, {_sides(shape)} here)"
        for name, (there, shape) in match.misshapen.items()
    ]
    for label, names in (("other shape", others), ("missing", match.missing)):
        if names:
            yield from _told(label, f"{len(names)} stay random: {_first(names)}")
    if match.own:
        text = f"{len(match.own)} that no published network has stay random: {_first(match.own)}"
        yield from _told("our own", text)
    if match.unused:
        unused = dict.fromkeys(match.unused)
        yield from _told("not used", f"{len(unused)} tensors of the file: {_groups(unused)}")


def _groups(names: Mapping[str, Any]) -> str:
    """What names begin with, after what all of them begin with, and how many each."""
    parts = [name.split(".") for name in names]
    depth = 0
    while all(len(each) > depth + 1 and each[depth] == parts[0][depth] for each in parts):
        depth += 1
    common = "".join(f"{part}." for part in parts[0][:depth])
    counts = Counter(each[depth] for each in parts)
    shown = [f"{name} ({count})" for name, count in counts.most_common()]
    return f"{common} then {_first(shown)}" if common else _first(shown)


def _first(texts: Iterable[str], most: int = MOST) -> str:
    texts = list(texts)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _percent(match: Match) -> str:
    """Rounded down: 100 % is all."""
    return f"{int(100 * match.share)} %"


def _sides(shape: Size) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _told(label: str, text: str) -> list[str]:
    first = f"{label + ':' if label else '':<{LABEL}}"
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=" " * LABEL, break_on_hyphens=False
    )
