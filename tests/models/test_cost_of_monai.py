"""What MONAI's encoders cost: counted on shapes, beside real tensors and arithmetic by hand."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from medmtl.models.cost import Feed, measure_network
from medmtl.models.encoder import Encoder
from medmtl.models.heads import ClassificationHead, SegmentationHead
from medmtl.models.monai_efficientnet import MonaiEfficientNetEncoder
from medmtl.models.monai_resnet import MonaiResNetEncoder
from medmtl.models.monai_swin import MonaiSwinEncoder
from medmtl.models.monai_vit import MonaiViTEncoder
from medmtl.models.multitask import MultiTaskModel, in_matrix_unit_layout

torch.set_num_threads(1)
HIDDEN, INSIDE, BLOCKS = 24, 40, 4


def make_vit() -> MonaiViTEncoder:
    return MonaiViTEncoder(
        patch_size=(4, 8, 8),
        image_size=(8, 16, 16),
        hidden_size=HIDDEN,
        mlp_dim=INSIDE,
        num_layers=BLOCKS,
        num_heads=3,
        feature_size=8,
    )


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "resnet": lambda: MonaiResNetEncoder(depth=18, shortcut_type="A"),
    "efficientnet": lambda: MonaiEfficientNetEncoder(size="b0"),
    "vit": make_vit,
    "swin": lambda: MonaiSwinEncoder(feature_size=12),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_flops_are_those_of_a_real_step(kind: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS[kind]()
    heads = {
        "grade": ClassificationHead(channels=encoder.channels[-1], outputs=1, dropout=0.0),
        "outline": SegmentationHead(channels=encoder.channels, finest=encoder.strides[0]),
    }
    model = in_matrix_unit_layout(MultiTaskModel(encoder=encoder, heads=heads)).train()
    feeds = {"the only": Feed(batch=2, size=(5, 24, 32))}
    cost = measure_network(model, feeds, precision="bf16")
    with FlopCounterMode(display=False) as counter:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.randn(2, 1, 5, 24, 32), ["grade", "outline"])
        torch.stack([each.sum() for each in logits.values()]).sum().backward()
    assert cost.total.step_flops == counter.get_total_flops()
    assert cost.total.kept_bytes > 0


def test_flops_of_attention_are_those_counted_by_hand() -> None:
    encoder = make_vit()
    head = ClassificationHead(channels=HIDDEN, outputs=1, dropout=0.0)
    model = MultiTaskModel(encoder=encoder, heads={"grade": head})
    feeds = {"the only": Feed(batch=3, size=(8, 24, 40))}
    cost = measure_network(model, feeds, precision="fp32").encoding["the only"]
    patches = 2 * 3 * 5
    linear = HIDDEN * 3 * HIDDEN + HIDDEN * HIDDEN + 2 * HIDDEN * INSIDE
    attention = 2 * patches * HIDDEN  # of whom to whom, then of what
    embedding = HIDDEN * 4 * 8 * 8
    widths = encoder.channels[:-1]
    raised = 0
    for level, width in enumerate(widths):
        voxels, inputs = patches, HIDDEN
        for stride, finer in zip(encoder.strides[:level:-1], encoder.strides[-2::-1], strict=False):
            step = [c // f for c, f in zip(stride, finer, strict=True)]
            raised += voxels * inputs * width * step[0] * step[1] * step[2]
            voxels, inputs = voxels * step[0] * step[1] * step[2], width
    expected = patches * (embedding + BLOCKS * (linear + attention)) + raised
    assert cost.forward_flops == 2 * expected
