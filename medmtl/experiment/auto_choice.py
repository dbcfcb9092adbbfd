"""Lets the inner split choose how a network is adapted.

Each candidate is learned from the same first weights on the training part and scored on the inner
one; test patients have no part in it. What is finished is written down, so a killed cell goes on.
The winner's checkpoint is kept, so it need not be trained again.
"""

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from medmtl.errors import RunError
from medmtl.experiment.learner import History, Learned, Learner, Split
from medmtl.run_folder import CellFolder, read_json, write_json
from medmtl.training.adaptation import CANDIDATES, Mode

RECORD = "adaptation.json"
Watch = Callable[[str, int, History], None]


@dataclass(kw_only=True)
class AutoChoice:
    """Tries the candidates on one or several splits.

    Attributes:
        learner: Of the cell's model.
        split: The cell's split by number; 0 is its own, others are inner splits drawn anew.
        folds: How many of them.
        folder: Of the cell.
        watch: Told what is being tried, the epoch, and the rows so far.
    """

    learner: Learner
    split: Callable[[int], Split]
    folds: int
    folder: CellFolder
    watch: Watch

    def learn(self) -> Learned:
        """Chooses, and leaves the model as the winner learned it on the cell's own split."""
        first = copy.deepcopy(self.learner.model.state_dict())
        scores = self._finished()
        for draw, mode in itertools.product(range(self.folds), CANDIDATES):
            of_mode = scores.setdefault(mode, {})
            if str(draw) in of_mode:
                continue
            of_mode[str(draw)] = _mean(self._try(mode, draw, first).scores)
            record = {"fingerprint": self.learner.fingerprint, "scores": scores}
            write_json(self.folder.path / RECORD, record)
            if draw > 0:
                self.folder.checkpoint_of(mode, draw).unlink(missing_ok=True)
        means = {mode: _mean(scores[mode]) for mode in CANDIDATES}
        return replace(self._try(best_mode(means), 0, first), tried=means, tried_by_split=scores)

    def _try(self, mode: Mode, draw: int, first: dict[str, Tensor]) -> Learned:
        self.learner.model.load_state_dict(first)
        return self.learner.learn(
            mode,
            self.split(draw),
            checkpoint=self.folder.checkpoint_of(mode, draw),
            watch=lambda epoch, history: self.watch(f"trying {mode}", epoch, history),
        )

    def _finished(self) -> dict[str, dict[str, float]]:
        """Scores by candidate and split, as far as this very cell has got."""
        try:
            record = read_json(self.folder.path / RECORD)
        except RunError:  # none yet, or spoilt: what it told is found again
            return {}
        return record["scores"] if record.get("fingerprint") == self.learner.fingerprint else {}


def best_mode(means: Mapping[Mode, float]) -> Mode:
    """The best mean score; of equals the one that changes least."""
    return max(CANDIDATES, key=lambda mode: means[mode])


def _mean(scores: Mapping[str, float]) -> float:
    values = list(scores.values())
    return sum(values) / len(values)
