from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from medmtl.models.encoder import Encoder, Features
from medmtl.pretraining.gathering import first_row, gather_rows
from medmtl.pretraining.method import Method, Views
from medmtl.pretraining.moco import MoCo
from medmtl.pretraining.simclr import SimCLR

torch.set_num_threads(1)
RANKS = 2
BATCH = 6
METHODS = ["simclr", "moco v2", "moco v3"]


class PlainEncoder(Encoder):
    """Without batch norm, so that a place's features don't depend on its batch."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.channels, self.strides = [8], [(2, 2, 2)]
        self.conv = nn.Conv3d(1, 8, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> Features:
        return [torch.relu(self.conv(image))]


def some_views(*, batch: int = BATCH, seed: int = 0) -> Views:
    """Two noisy looks at random places."""
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(batch, 1, 4, 8, 8, generator=generator)
    noise = 0.3 * torch.randn(2, *plain.shape, generator=generator)
    return Views(
        plain=plain,
        inside=torch.ones_like(plain, dtype=torch.bool),
        first=plain + noise[0],
        second=plain + noise[1],
        seeds=torch.arange(batch),
    )


def share_of(views: Views, rank: int) -> Views:
    parts = {name: whole.chunk(RANKS)[rank] for name, whole in vars(views).items()}
    return Views(**parts)


def make(name: str, encoder: Encoder) -> Method:
    torch.manual_seed(1)
    sizes = {"channels": encoder.channels[-1], "outputs": 5, "hidden": 7}
    if name == "simclr":
        return SimCLR(**sizes)
    return MoCo(encoder=encoder, queue=10 if name == "moco v2" else 0, momentum=0.5, **sizes)


def after_two_steps(name: str, rank: int | None) -> dict[str, Tensor]:
    """Losses and gradients of two steps, on a share of each batch or on all of it."""
    encoder = PlainEncoder()
    method = make(name, encoder)
    found = {}
    for step in range(2):
        views = some_views(seed=step)
        both = nn.ModuleList([encoder, method])
        both.zero_grad()
        loss = method(encoder, views if rank is None else share_of(views, rank)).loss
        loss.backward()
        learnt = {k: p for k, p in both.named_parameters() if p.requires_grad}
        for parameter in learnt.values():
            if rank is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= RANKS
            parameter.data -= parameter.grad
        found |= {f"{step} {k}": p.grad.clone() for k, p in learnt.items()}
        found[f"{step} loss"] = loss.detach()
        method.after_step(encoder, (step + 1) / 2)
    return found | method.state_dict()


def as_one_of_two(rank: int, folder: str) -> None:
    join(rank, RANKS, Path(folder))
    rows = torch.arange(6.0).reshape(3, 2) + 100 * rank
    rows.requires_grad_()
    gathered = gather_rows(rows)
    weights = torch.arange(12.0).reshape(6, 2) * (rank + 1)
    (gathered * weights).sum().backward()
    found = {
        "gathered": gathered.detach(),
        "gradient": rows.grad,
        "first row": first_row(rows),
        **{name: after_two_steps(name, rank) for name in METHODS},
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def join(rank: int, ranks: int, folder: Path) -> None:
    where = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=ranks)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(as_one_of_two, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.fixture
def alone_in_a_group(tmp_path: Path) -> Iterator[None]:
    join(0, 1, tmp_path)
    yield
    dist.destroy_process_group()


def test_a_single_process_has_all_rows_already() -> None:
    rows = torch.randn(3, 2)
    assert gather_rows(rows) is rows
    assert first_row(rows) == 0


def test_a_group_of_one_gathers_its_own_rows(alone_in_a_group: None) -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    gathered = gather_rows(rows)
    (gathered * 3).sum().backward()
    assert torch.equal(gathered, rows) and first_row(rows) == 0
    assert torch.equal(rows.grad, torch.full((3, 2), 3.0))


def test_rows_are_gathered_by_rank(ranks: list[dict]) -> None:
    own = torch.arange(6.0).reshape(3, 2)
    for rank, found in enumerate(ranks):
        assert torch.equal(found["gathered"], torch.cat([own, own + 100]))
        assert found["first row"] == 3 * rank


def test_a_row_gets_the_gradients_of_all_losses_it_went_into(ranks: list[dict]) -> None:
    weights = torch.arange(12.0).reshape(6, 2)
    assert torch.equal(ranks[0]["gradient"], 3 * weights[:3])
    assert torch.equal(ranks[1]["gradient"], 3 * weights[3:])


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_learn_what_one_does_with_the_whole_batch(
    ranks: list[dict], name: str
) -> None:
    whole = after_two_steps(name, None)
    halves = [found[name] for found in ranks]
    assert all(whole.keys() == half.keys() for half in halves)
    for key, expected in whole.items():
        if key.endswith("loss"):
            mean = (halves[0][key] + halves[1][key]) / 2
            assert torch.allclose(mean, expected, atol=1e-6)
        else:
            assert torch.equal(halves[0][key], halves[1][key])
            assert torch.allclose(halves[0][key], expected, rtol=0, atol=1e-6), key


def test_the_gradients_compared_are_not_all_zero() -> None:
    for name in METHODS:
        found = after_two_steps(name, None)
        assert found["0 0.conv.weight"].abs().max() > 1e-3
