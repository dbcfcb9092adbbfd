import pytest
import torch
from torch import Tensor, nn

from medmtl.models.convolution import guard_convolutions
from medmtl.models.encoder import Encoder, LeanResidualEncoder, MonaiSegResNetEncoder
from medmtl.models.heads import SegmentationHead
from medmtl.pretraining.masked_autoencoder import (
    MaskedAutoencoder,
    normalised_cells,
    pooled_visible,
)
from medmtl.pretraining.masking import draw_mask, masked_pass
from medmtl.pretraining.method import Views

torch.set_num_threads(1)
CELLS = {(3, 40, 40): (3, 16, 16), (16, 32, 32): (8, 8, 8)}


def make_encoder(kind: str = "lean") -> Encoder:
    torch.manual_seed(0)
    if kind == "lean":
        return LeanResidualEncoder(widths=[8, 16, 24, 32], dropout=0.0)
    return MonaiSegResNetEncoder(init_filters=8, blocks_down=[1, 1, 1, 1], norm="instance")


def make_method(encoder: Encoder, cell: tuple[int, int, int]) -> MaskedAutoencoder:
    decoder = SegmentationHead(channels=encoder.channels, finest=encoder.strides[0])
    return MaskedAutoencoder(channels=encoder.channels, decoder=decoder, cell=cell)


def make_views(shape: tuple[int, int, int], batch: int = 4) -> Views:
    """Soft blobs, and a border beyond the file."""
    torch.manual_seed(1)
    coarse = torch.randn(batch, 1, *(-(-side // 4) for side in shape))
    plain = nn.functional.interpolate(coarse, size=shape, mode="trilinear").tanh()
    inside = torch.ones_like(plain, dtype=torch.bool)
    inside[..., :5] = False
    seeds = torch.randint(0, 2**62, (batch,))
    return Views(plain=plain, inside=inside, first=plain, second=None, seeds=seeds)


class Recorder(nn.Module):
    """A decoder that keeps what it is given, and restores a constant image."""

    def __init__(self, restored: Tensor) -> None:
        super().__init__()
        self.restored = nn.Parameter(restored)
        self.features: list[Tensor] = []

    def forward(self, features: list[Tensor]) -> Tensor:
        self.features = features
        return self.restored


@pytest.mark.parametrize("shape", list(CELLS))
@pytest.mark.parametrize("kind", ["lean", "monai"])
@pytest.mark.parametrize("bf16", [False, True])
def test_every_parameter_learns_from_an_fp32_loss(
    kind: str, shape: tuple[int, int, int], bf16: bool
) -> None:
    encoder = make_encoder(kind)
    method = make_method(encoder, CELLS[shape])
    guard_convolutions(encoder)
    guard_convolutions(method)
    views = make_views(shape)

    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outcome = method(encoder, views)
    outcome.loss.backward()

    assert outcome.loss.dtype == torch.float32
    assert 0.3 < outcome.loss < 3
    assert outcome.features.shape == (4, encoder.channels[-1])
    assert outcome.features.dtype == torch.float32
    assert not outcome.features.requires_grad
    assert all(p.grad is not None for p in [*encoder.parameters(), *method.parameters()])


@pytest.mark.parametrize("normalise", [False, True])
def test_the_loss_counts_hidden_voxels_in_the_file(normalise: bool) -> None:
    shape = (16, 32, 32)
    encoder, views = make_encoder(), make_views(shape)
    method = make_method(encoder, CELLS[shape])
    method.normalise_cells = normalise
    decoder = method.decoder = Recorder(torch.zeros_like(views.plain))

    loss = method(encoder, views).loss
    loss.backward()

    hidden = ~draw_mask(shape, method.cell, method.share, views.seeds) & views.inside
    target = views.plain
    if normalise:
        target = normalised_cells(target, views.inside, method.cell)
    by_hand = torch.stack([target[i][hidden[i]].square().mean() for i in range(4)]).mean()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert torch.equal(decoder.restored.grad != 0, hidden)


def test_the_decoder_gets_the_filling_where_nothing_is_visible() -> None:
    shape = (16, 32, 32)
    encoder, views = make_encoder(), make_views(shape)
    method = make_method(encoder, (16, 16, 16))
    decoder = method.decoder = Recorder(torch.zeros_like(views.plain))

    method(encoder, views)

    visible = draw_mask(shape, method.cell, method.share, views.seeds)
    for values, filling, stride in zip(
        decoder.features, method.fillings, encoder.strides, strict=True
    ):
        depth, height, width = stride
        seen = visible[:, 0, ::depth, ::height, ::width]
        rows = values.permute(0, 2, 3, 4, 1)
        assert (rows[~seen] == filling).all()
        assert not (rows[seen] == filling).any()


def test_features_are_the_mean_of_visible_positions() -> None:
    encoder, views = make_encoder(), make_views((16, 32, 32))
    visible = draw_mask((16, 32, 32), (16, 16, 16), 0.6, views.seeds)
    with masked_pass(encoder, visible):
        features = encoder(views.plain)

    found = pooled_visible(features, visible)

    seen = visible[:, 0, ::2, ::16, ::16]
    for place in range(4):
        rows = features[-1][place].permute(1, 2, 3, 0)[seen[place]]
        assert torch.allclose(found[place], rows.mean(0), atol=1e-6)


def test_cells_are_normalised_by_their_voxels_in_the_file() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 1, 5, 12, 10) * 2 - 1
    image[0, 0, :2, :4, :4] = 0.7  # a flat cell
    inside = torch.rand(image.shape) < 0.8
    cell = (2, 4, 4)

    found = normalised_cells(image, inside, cell)

    for place in range(2):
        for z, y, x in torch.cartesian_prod(
            torch.arange(0, 5, 2), torch.arange(0, 12, 4), torch.arange(0, 10, 4)
        ).tolist():
            box = (place, 0, slice(z, z + 2), slice(y, y + 4), slice(x, x + 4))
            counted = image[box][inside[box]]
            spread = (counted.var(correction=0) + 0.02**2).sqrt()
            assert torch.allclose(found[box], (image[box] - counted.mean()) / spread, atol=1e-4)
    assert found[0, 0, :2, :4, :4].abs().max() < 1e-4


def test_what_lies_beyond_the_file_does_not_change_the_targets_in_it() -> None:
    views = make_views((16, 32, 32))
    other = views.plain.masked_fill(~views.inside, -1.0)
    expected = normalised_cells(views.plain, views.inside, (8, 8, 8))
    found = normalised_cells(other, views.inside, (8, 8, 8))
    assert torch.equal(found[views.inside], expected[views.inside])


def test_cells_that_do_not_fit_are_refused() -> None:
    encoder, views = make_encoder(), make_views((16, 32, 32))
    with pytest.raises(ValueError, match="multiple"):
        make_method(encoder, (4, 5, 8))(encoder, views)
    with pytest.raises(ValueError, match="single cell"):
        make_method(encoder, (16, 32, 32))(encoder, views)


def test_a_few_steps_lower_the_loss() -> None:
    encoder, views = make_encoder(), make_views((16, 32, 32))
    method = make_method(encoder, CELLS[(16, 32, 32)])
    optimizer = torch.optim.Adam([*encoder.parameters(), *method.parameters()], lr=5e-3)

    losses = []
    for _ in range(15):
        loss = method(encoder, views).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.8 * losses[0]
