"""Which settings of an encoder a file of weights was made with, as far as shapes tell."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import Size

Shapes = Mapping[str, Size]
Knobs = dict[str, Any]

RESNETS = {(1, 1, 1, 1): 10, (2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
BOTTLENECKS = {(3, 4, 6, 3): 50}
DENSENETS = {16: 121, 32: 169}
HEAD_WIDTH = 64  # of attention, as most vision transformers have it
# What shapes do not tell: a setting, and a word about it.
UNSEEN: Mapping[str, Mapping[str, str]] = {
    "monai_resnet": {"conv1_t_stride": "no shape tells; MedicalNet 2, MONAI's default 1"},
    "monai_vit": {
        "num_heads": "no shape tells; mostly hidden_size / 64",
        "image_size": "taken for a cube",
    },
}


def guess_knobs(shapes: Shapes) -> list[Knobs]:
    """Settings that a file may have been made with, of every kind of encoder that it resembles.

    Args:
        shapes: Of the file's tensors, by name.
    """
    found: list[Knobs] = []
    for signature, guess in _KINDS.items():
        own = _below(shapes, signature)
        if own is not None:
            with suppress(LookupError, ValueError):  # a name or an axis is missing: another network
                found += guess(own)
    return found


def _below(shapes: Shapes, signature: str) -> Shapes | None:
    """The tensors that lie beside one of a name, by what follows their common beginning."""
    ends = [name for name in shapes if f".{name}".endswith(f".{signature}")]
    if not ends:
        return None
    before = min(ends, key=len).removesuffix(signature)
    return {name[len(before) :]: shape for name, shape in shapes.items() if name.startswith(before)}


def _count(own: Shapes, numbered: str) -> int:
    """How many numbers there are in the place of # in names."""
    before, after = map(re.escape, numbered.split("#"))
    pattern = re.compile(rf"{before}(\d+){after}")
    return len({found[1] for name in own if (found := pattern.match(name))})


def _lean(own: Shapes) -> Sequence[Knobs]:
    widths = [own[f"levels.{k}.conv1.weight"][0] for k in range(_count(own, "levels.#."))]
    norm = "batch" if "stem.1.running_mean" in own else "group"
    return [{"kind": "lean_residual", "widths": widths, "norm": norm}]


def _segresnet(own: Shapes) -> Sequence[Knobs]:
    levels = _count(own, "layers.#.")
    first = "layers.0.blocks.0.norm1."
    norm = "batch" if first + "running_mean" in own else "group"
    return [
        {
            "kind": "monai_segresnet",
            "init_filters": own["conv_init.weight"][0],
            "blocks_down": [_count(own, f"layers.{k}.blocks.#.") for k in range(levels)],
            "norm": norm if first + "weight" in own else "instance",
        }
    ]


def _resnet(own: Shapes) -> Sequence[Knobs]:
    depths = BOTTLENECKS if "layer1.0.conv3.weight" in own else RESNETS
    layers = [_count(own, f"layer{k}.#.") for k in range(1, 5)]
    projected = "layer2.0.downsample.0.weight" in own
    return [
        {
            "kind": "monai_resnet",
            "depth": depths.get((layers[0], layers[1], layers[2], layers[3])),
            "shortcut_type": "B" if projected else "A",
            "bias_downsample": "layer2.0.downsample.0.bias" in own,
            "conv1_t_size": own["conv1.weight"][-1],
        }
    ]


def _densenet(own: Shapes) -> Sequence[Knobs]:
    layers = _count(own, "denseblock4.denselayer#.")
    return [{"kind": "monai_densenet", "depth": DENSENETS.get(layers)}]


def _efficientnet(own: Shapes) -> Sequence[Knobs]:
    return [{"kind": "monai_efficientnet", "size": size} for size in ("b0", "b1", "b2")]


def _vit(own: Shapes) -> Sequence[Knobs]:
    hidden, _, *patch = own["patch_embedding.patch_embeddings.weight"]
    patches = own["patch_embedding.position_embeddings"][1]
    edge = round(patches ** (1 / 3))
    grid = [edge] * 3 if edge**3 == patches else [1, 1, patches]
    return [
        {
            "kind": "monai_vit",
            "patch_size": patch,
            "image_size": [side * each for side, each in zip(grid, patch, strict=True)],
            "hidden_size": hidden,
            "mlp_dim": own["blocks.0.mlp.linear1.weight"][0],
            "num_layers": _count(own, "blocks.#."),
            "num_heads": max(1, hidden // HEAD_WIDTH),
        }
    ]


def _swin(own: Shapes) -> Sequence[Knobs]:
    return [{"kind": "monai_swin_unetr", "feature_size": own["patch_embed.proj.weight"][0]}]


def _resenc(own: Shapes) -> Sequence[Knobs]:
    stages = range(_count(own, "stages.#."))
    return [
        {
            "kind": "nnunet_resenc",
            "widths": [own[f"stages.{k}.blocks.0.conv1.conv.weight"][0] for k in stages],
            "blocks": [_count(own, f"stages.{k}.blocks.#.") for k in stages],
        }
    ]


# By a name that only this kind has.
_KINDS: Mapping[str, Callable[[Shapes], Sequence[Knobs]]] = {
    "levels.0.conv1.weight": _lean,
    "conv_init.weight": _segresnet,
    "layer1.0.conv1.weight": _resnet,
    "denseblock1.denselayer1.layers.conv1.weight": _densenet,
    "_blocks.0.0._depthwise_conv.weight": _efficientnet,
    "patch_embedding.patch_embeddings.weight": _vit,
    "layers1.0.blocks.0.attn.relative_position_bias_table": _swin,
    "stages.0.blocks.0.conv1.conv.weight": _resenc,
}
