"""Published weights laid onto an encoder: which tensor of a file is which of the network.

Everyone publishes the same network under other names: wrapped in a training program's, or in a
larger network's whose encoder it is. What differs is what the names begin with, so that is looked
for: the beginning under which most tensors of the encoder are found, with their shapes.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Size, Tensor

# Names that mean the same, so that either is found. Swin UNETR's self-supervised weights are older
# than MONAI's names.
SYNONYMS = {".mlp.fc1.": ".mlp.linear1.", ".mlp.fc2.": ".mlp.linear2."}
# nnU-Net writes every tensor of its encoder twice or more.
TWICE = re.compile(r"\.all_modules\.|(^|\.)decoder\.encoder\.")
# Counts and tables that follow from the settings, and a norm that MONAI has but never uses.
FOLLOWING = ("num_batches_tracked", "relative_position_index", "norm_cross_attn.weight",
             "norm_cross_attn.bias")  # fmt: skip
WRAPPED = "network."  # where encoders of this project keep a network that others published
DEEPEST = 6  # parts of a beginning

Shapes = Mapping[str, Size]
Chosen = tuple[str, str]  # what to put before the encoder's names, and to take off them before


@dataclass(frozen=True, kw_only=True)
class Match:
    """What of a file is what of an encoder.

    Attributes:
        prefix: What the file's names begin with, before the encoder's own.
        sources: By the encoder's name, the file's.
        summed: Of these, convolutions of the image that the file has for several input channels.
        missing: The encoder's, of which the file has nothing; those that follow are left out.
        misshapen: The encoder's, of which the file has another shape.
        own: The encoder's that no published network has, so that none is looked for.
        unused: The file's.
    """

    prefix: str
    sources: Mapping[str, str]
    summed: list[str]
    missing: list[str]
    misshapen: dict[str, tuple[Size, Size]]
    own: list[str]
    unused: list[str]

    @property
    def found(self) -> int:
        """How many tensors of the encoder the file has, without those that follow."""
        return sum(not name.endswith(FOLLOWING) for name in self.sources)

    @property
    def wanted(self) -> int:
        """How many are looked for."""
        return self.found + len(self.missing) + len(self.misshapen)

    @property
    def share(self) -> float:
        """How many of them are found."""
        return self.found / max(1, self.wanted)


def match_names(published: Mapping[str, Tensor], encoder: Mapping[str, Tensor]) -> Match:
    """Finds the tensors of an encoder in a file.

    Args:
        published: Of the file, by name.
        encoder: `state_dict()` of the encoder; values are not looked at.
    """
    found = {_plain_name(name): name for name in published if not TWICE.search(name)}
    shapes = {name: published[source].shape for name, source in found.items()}
    wrapped = any(name.startswith(WRAPPED) for name in encoder)
    looked_for = {
        name.removeprefix(WRAPPED): value.shape
        for name, value in encoder.items()
        if name.startswith(WRAPPED) or not wrapped
    }
    prefix, skipped = _best_beginning(shapes, looked_for)
    full = {name.removeprefix(WRAPPED): name for name in encoder}
    of_image = next((name for name, shape in looked_for.items() if len(shape) == 5), None)
    sources, summed, missing = {}, [], []
    misshapen: dict[str, tuple[Size, Size]] = {}
    for name, shape in looked_for.items():
        there = prefix + name.removeprefix(skipped)
        if there not in shapes:
            missing += [] if name.endswith(FOLLOWING) else [full[name]]
        elif shapes[there] == shape:
            sources[full[name]] = found[there]
        elif name == of_image and _is_of_more_channels(shapes[there], shape):
            sources[full[name]] = found[there]
            summed.append(full[name])
        else:
            misshapen[full[name]] = (shapes[there], shape)
    used = {*sources.values()}
    return Match(
        prefix=prefix,
        sources=sources,
        summed=summed,
        missing=missing,
        misshapen=misshapen,
        own=[name for name in encoder if wrapped and not name.startswith(WRAPPED)],
        unused=[name for name in found.values() if name not in used],
    )


def laid_on(match: Match, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors under the encoder's names.

    Those of several input channels are added up, for a CT is shown to each of them alike.
    """
    laid = {name: published[source] for name, source in match.sources.items()}
    return laid | {name: laid[name].sum(dim=1, keepdim=True) for name in match.summed}


def beginnings(names: Mapping[str, object]) -> list[str]:
    """What names begin with, up to a few parts, the commonest first; none at all is the first."""
    counts = Counter(
        ".".join(parts[:depth]) + "."
        for parts in (name.split(".") for name in names)
        for depth in range(1, min(DEEPEST + 1, len(parts)))
    )
    return ["", *(beginning for beginning, _ in counts.most_common())]


def _best_beginning(shapes: Shapes, looked_for: Shapes) -> Chosen:
    def score(beginning: str, skipped: str) -> int:
        pairs = (
            (shapes.get(beginning + name.removeprefix(skipped)), shape)
            for name, shape in looked_for.items()
        )
        return sum(there == shape for there, shape in pairs)

    choices = [
        (beginning, skipped) for skipped in _common(looked_for) for beginning in beginnings(shapes)
    ]
    return max(choices, key=lambda choice: (score(*choice), -len("".join(choice))))


def _common(names: Shapes) -> Iterator[str]:
    """What all names begin with: nothing, and whole parts."""
    yield ""
    first, *others = (name.split(".")[:-1] for name in names)
    for depth in range(1, len(first) + 1):
        if any(other[:depth] != first[:depth] for other in others):
            return
        yield ".".join(first[:depth]) + "."


def _is_of_more_channels(there: Size, shape: Size) -> bool:
    """Whether it is the same convolution, of images of several channels rather than one."""
    return len(there) == 5 and shape == (there[0], 1, *there[2:])


def _plain_name(name: str) -> str:
    for other, ours in SYNONYMS.items():
        name = name.replace(other, ours)
    return name
