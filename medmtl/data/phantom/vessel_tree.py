"""Blood vessels of a lung: a tree that grows towards places all over it."""

import numpy as np
from jaxtyping import Float, Int

from medmtl.data.phantom.tubes import Tube

STEP_MM = 4.0
TIP_MM = 0.62  # radius of the last branches
MURRAY = 2.55


class VesselTree:
    """A tree of nodes; each knows its parent and the way it came.

    Source:
        Space colonisation as in Runions 2007; radii after Murray's law.
    """

    def __init__(self, root_mm: Float[np.ndarray, "3"], heading: Float[np.ndarray, "3"]) -> None:
        self._count = 1
        self._places = np.zeros((16384, 3))
        self._headings = np.zeros((16384, 3))
        self._parents = np.zeros(16384, dtype=np.int64)
        self._leaves = np.zeros(16384)
        self._places[0], self._headings[0] = root_mm, heading

    def grow(self, targets_mm: Float[np.ndarray, "n 3"]) -> None:
        """Reaches every target, the near ones first, from whatever branch is convenient."""
        away = np.linalg.norm(targets_mm - self._places[0], axis=1)
        for target in targets_mm[np.argsort(away)]:
            self._reach(target)

    def as_tube(self) -> Tube:
        """The whole tree as balls, half a radius apart."""
        radii = TIP_MM * self._flow() ** (1 / MURRAY)
        ends, parents = self._places[1 : self._count], self._parents[1 : self._count]
        starts = self._places[parents]
        own, before = radii[1:], np.minimum(radii[parents], 1.25 * radii[1:])
        lengths = np.linalg.norm(ends - starts, axis=1)
        counts = np.ceil(lengths / (0.7 * np.maximum(own, 0.8))).astype(int)
        segment = np.repeat(np.arange(len(counts)), counts)
        along = np.arange(len(segment)) - np.repeat(np.cumsum(counts) - counts, counts)
        part = ((along + 0.5) / counts[segment])[:, None]
        points = starts[segment] * (1 - part) + ends[segment] * part
        thickness = before[segment] * (1 - part[:, 0]) + own[segment] * part[:, 0]
        return Tube(points_mm=points, radii_mm=thickness)

    def _reach(self, target: Float[np.ndarray, "3"]) -> None:
        way = target - self._places[: self._count]
        away = np.sqrt(np.einsum("ij,ij->i", way, way)) + 1e-6
        straight = np.einsum("ij,ij->i", way, self._headings[: self._count]) / away
        nearest = int(np.argmin(away * (1.9 - straight)))
        steps = int(np.ceil(away[nearest] / STEP_MM))
        if self._count + steps > len(self._places):
            return
        start = self._places[nearest]
        bend = start + 0.45 * away[nearest] * self._headings[nearest]
        t = (np.arange(1, steps + 1) / steps)[:, None]
        path = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * target
        new = slice(self._count, self._count + steps)
        moves = np.diff(path, axis=0, prepend=start[None])
        self._places[new] = path
        self._headings[new] = moves / (np.linalg.norm(moves, axis=1, keepdims=True) + 1e-9)
        self._parents[new] = np.arange(self._count - 1, self._count + steps - 1)
        self._parents[self._count] = nearest
        self._count += steps
        self._leaves[self._count - 1] = 1

    def _flow(self) -> Float[np.ndarray, " n"]:
        """How many tips each node feeds."""
        flow = self._leaves[: self._count].copy()
        parents: Int[np.ndarray, " n"] = self._parents
        for node in range(self._count - 1, 0, -1):
            flow[parents[node]] += flow[node]
        return np.maximum(flow, 1.0)
