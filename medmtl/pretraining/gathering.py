"""What one process needs of the others: the rows of the whole batch, not only of its own share.

Contrast is between members of a batch. Where a batch is divided among processes, each compares
its own rows with everybody's. DistributedDataParallel averages the gradients of parameters over
the processes; so each process's loss is a mean over its own rows, and the whole equals one process
with the whole batch. All processes must hold equally many rows.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx


def gather_rows(rows: Float[Tensor, "batch d"]) -> Float[Tensor, "whole d"]:
    """The rows of all processes, by rank; in a single process, its own.

    Gradients flow back to whichever process made a row, from all losses that it went into.

    Args:
        rows: Of this process; equally many in each.
    """
    return _Gathered.apply(rows) if _divided() else rows


def first_row(rows: Float[Tensor, "batch d"]) -> int:
    """Where the rows of this process begin among the gathered ones."""
    return dist.get_rank() * len(rows) if _divided() else 0


def _divided() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Gathered(torch.autograd.Function):
    """torch's own would send each gradient alone; one sum over all is simpler, and gloo has it."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        mine = rows.contiguous()
        everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, mine)
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
