import torch
from torch import nn

from medmtl.models.encoder import LeanResidualEncoder
from medmtl.pretraining.contrast import nt_xent
from medmtl.pretraining.method import pooled
from medmtl.pretraining.simclr import SimCLR
from tests.pretraining.test_gathering import PlainEncoder, some_views

torch.set_num_threads(1)


def test_the_loss_is_nt_xent_of_the_projected_views() -> None:
    encoder, views = PlainEncoder(), some_views()
    method = SimCLR(channels=8, outputs=5, hidden=7, temperature=0.3)
    outcome = method(encoder, views)
    first, second = pooled(encoder(views.first)), pooled(encoder(views.second))
    expected = nt_xent(method.projection(first), method.projection(second), 0.3)
    assert torch.allclose(outcome.loss, expected, atol=1e-6)
    assert torch.allclose(outcome.features, first, atol=1e-6)
    assert torch.allclose(outcome.partners, second, atol=1e-6)
    assert not outcome.features.requires_grad and not outcome.partners.requires_grad


def test_it_wants_pairs() -> None:
    assert SimCLR.needs_pairs


def test_training_brings_the_views_of_a_place_together() -> None:
    torch.manual_seed(0)
    encoder = LeanResidualEncoder(widths=[4, 8], dropout=0.0)
    method = SimCLR(channels=8, outputs=8, hidden=16)
    optimizer = torch.optim.AdamW(nn.ModuleList([encoder, method]).parameters(), lr=1e-2)
    views = some_views(batch=8)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = method(encoder, views).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_under_autocast_loss_and_features_are_fp32() -> None:
    encoder = LeanResidualEncoder(widths=[4, 8], dropout=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = SimCLR(channels=8)(encoder, some_views())
    assert outcome.loss.dtype == outcome.features.dtype == torch.float32
