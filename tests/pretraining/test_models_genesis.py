import pytest
import torch
from torch import Tensor, nn

from medmtl.models.encoder import LeanResidualEncoder
from medmtl.models.heads import SegmentationHead
from medmtl.pretraining.corruption import Corruption
from medmtl.pretraining.method import Views, pooled
from medmtl.pretraining.models_genesis import ModelsGenesis, restoration_error

torch.set_num_threads(1)


def make_method(encoder: LeanResidualEncoder) -> ModelsGenesis:
    decoder = SegmentationHead(channels=encoder.channels, finest=encoder.strides[0])
    return ModelsGenesis(decoder=decoder, corruption=Corruption())


def make_views(shape: tuple[int, int, int], batch: int = 4) -> Views:
    """Slanted edges of soft blobs, and a border beyond the file."""
    torch.manual_seed(0)
    coarse = torch.randn(batch, 1, *(-(-side // 4) for side in shape))
    plain = nn.functional.interpolate(coarse, size=shape, mode="trilinear").tanh()
    inside = torch.ones_like(plain, dtype=torch.bool)
    inside[..., :5] = False
    seeds = torch.randint(0, 2**62, (batch,))
    return Views(plain=plain, inside=inside, first=plain, second=None, seeds=seeds)


@pytest.mark.parametrize("shape", [(3, 40, 40), (16, 32, 32)])
@pytest.mark.parametrize("bf16", [False, True])
def test_the_loss_is_fp32_and_the_features_are_the_encoders(
    shape: tuple[int, int, int], bf16: bool
) -> None:
    torch.manual_seed(0)
    encoder = LeanResidualEncoder(widths=[8, 16, 24, 32], dropout=0.0)
    method = make_method(encoder)
    views = make_views(shape)

    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outcome = method(encoder, views)
        seen = method.corruption.apply(views.plain, views.seeds)
        assert torch.equal(outcome.features, pooled(encoder(seen)))
    outcome.loss.backward()

    assert outcome.loss.dtype == torch.float32
    assert outcome.features.shape == (4, 32)
    assert not outcome.features.requires_grad
    assert all(p.grad is not None for p in [*encoder.parameters(), *method.parameters()])


def test_what_lies_beyond_the_file_is_not_learned() -> None:
    target = torch.randn(3, 1, 4, 6, 6)
    inside = torch.rand(target.shape) < 0.5
    inside[1] = False
    restored = torch.randn(target.shape, requires_grad=True)

    loss = restoration_error(restored, target, inside)
    loss.backward()

    squares = (restored - target).square()
    by_hand = (squares[0][inside[0]].mean() + squares[2][inside[2]].mean()) / 3
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert restored.grad is not None
    assert torch.equal(restored.grad != 0, inside)
    elsewhere = target.masked_fill(~inside, 1e30)
    assert restoration_error(restored, elsewhere, inside) == loss
    wider = nn.functional.pad(restored, (0, 2, 0, 2, 0, 1), value=9)
    assert restoration_error(wider, target, inside) == loss


def test_a_perfect_decoder_has_no_error() -> None:
    views = make_views((3, 40, 40))

    class Oracle(nn.Module):
        def forward(self, features: list[Tensor]) -> Tensor:
            return views.plain

    encoder = LeanResidualEncoder(widths=[8, 16], dropout=0.0)
    outcome = ModelsGenesis(decoder=Oracle(), corruption=Corruption())(encoder, views)
    assert outcome.loss == 0


def test_a_few_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    encoder = LeanResidualEncoder(widths=[8, 16, 24], dropout=0.0)
    method = make_method(encoder)
    views = make_views((16, 32, 32))
    optimizer = torch.optim.Adam([*encoder.parameters(), *method.parameters()], lr=5e-3)

    losses = []
    for _ in range(15):
        loss = method(encoder, views).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.6 * losses[0]
