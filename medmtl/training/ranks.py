"""The processes that share each batch, as `torchrun` starts them; a single one needs nothing."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# The others wait while one opens what the probe looks at. torchrun itself ends all if one dies.
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0; the one that writes files is 0.
        count: Of all.
    """

    rank: int = 0
    count: int = 1

    def share(self, batch: int) -> range:
        """Its rows of a batch."""
        part = batch // self.count
        return range(self.rank * part, (self.rank + 1) * part)

    def wrap(self, module: nn.Module) -> nn.Module:
        """A module whose gradients are averaged over the processes."""
        if self.count == 1:
            return module
        # Methods that look at the coarsest map alone leave what feeds finer ones without gradient.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def mean(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The mean over the processes of each number."""
        every = self.gather(dict(numbers))
        return {name: sum(each[name] for each in every) / self.count for name in numbers}

    def gather(self, part: Any) -> list[Any]:
        """Every process's part, in order."""
        if self.count == 1:
            return [part]
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, part)
        return parts

    def all_agree(self, mine: bool) -> bool:
        """Whether it holds in every process."""
        if self.count == 1:
            return mine
        vote = torch.tensor(float(mine))
        dist.all_reduce(vote, dist.ReduceOp.MIN)
        return bool(vote > 0)

    def first_says(self, mine: bool) -> bool:
        """What process 0 says."""
        if self.count == 1:
            return mine
        word = torch.tensor(float(mine))
        dist.broadcast(word, 0)
        return bool(word > 0)

    def leave(self) -> None:
        """Ends the company."""
        if self.count > 1:
            dist.destroy_process_group()


def join_ranks() -> Ranks:
    """Joins the processes that `torchrun` has started; alone, if this was not started by it."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return Ranks()
    dist.init_process_group("gloo", timeout=PATIENCE)
    return Ranks(rank=dist.get_rank(), count=dist.get_world_size())
