"""Published encoders: what a file holds, and how it becomes weights to begin with here."""

from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from medmtl.build.encoder_guess import guess_knobs
from medmtl.build.encoder_text import (
    ENOUGH,
    Candidate,
    describe_file,
    first_few,
    percent,
    sides,
    told,
    what_became,
)
from medmtl.build.learning import build_encoder
from medmtl.build.published_file import PublishedFile, read_published
from medmtl.build.start import ENCODER
from medmtl.config_encoder import Encoder as EncoderKnobs
from medmtl.config_file import load_config, load_pretraining
from medmtl.data.contamination.exposure import Exposure
from medmtl.errors import ConfigError, some_of
from medmtl.models.published import Match, laid_on, match_names
from medmtl.training.checkpoint import save_tensors

KNOBS: TypeAdapter[EncoderKnobs] = TypeAdapter(EncoderKnobs)


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
    return describe_file(file, find_candidates(file))


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
    note = " ".join(seen.split())
    if not note:
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
    exposure = Exposure(salt=file.digest[:32], contents=frozenset(), note=note)
    save_tensors(
        out,
        {
            "state": {ENCODER + name: value for name, value in encoder.state_dict().items()},
            "exposure": exposure.to_dict(),
            "made_of": knobs.model_dump_json(),
            "imported": {"file": file.name, "sha256": file.digest},
        },
    )
    return "\n".join([*what_became(knobs.kind, match), *told("encoder", str(out))])


def _require_enough(file: PublishedFile, kind: str, match: Match, *, partly: bool) -> None:
    if not match.sources:
        raise ConfigError(f"{file.name}: holds nothing of {kind}; see 'medmtl encoder inspect'")
    if partly or (match.share >= ENOUGH and not match.misshapen):
        return
    other = [
        f"{name}: {sides(there)} in the file, {sides(shape)} here"
        for name, (there, shape) in match.misshapen.items()
    ]
    why = f"; of another shape: {first_few(other, 3)}" if other else ""
    lacking = f"; not in the file: {first_few(match.missing, 3)}" if match.missing else ""
    raise ConfigError(
        f"{file.name}: {percent(match)} of {match.wanted} tensors of {kind} were found"
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
