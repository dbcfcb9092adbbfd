"""What an experiment was meant to be, in plain values: all that the run folder does not say."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from medmtl.data.manifest import Manifest
from medmtl.data.tasks import ClassificationTask, OrganTask, SegmentationTask, Task


def organ_name(structure: str) -> str:
    """What people call a structure of the data card, such as "left lung" for left_lung."""
    return structure.replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class ArmDescription:
    """One trained variant.

    Attributes:
        title: For people; the arm's name where it is empty.
        heads: Names of its tasks.
        caution: Printed beside every number of the arm, such as "extent-confounded".
        is_control: It shows what the input gives away, and is no result.
    """

    title: str
    heads: Sequence[str]
    caution: str = ""
    is_control: bool = False


@dataclass(frozen=True, kw_only=True)
class ArmGroup:
    """Arms that stand together in a table."""

    title: str
    names: Sequence[str]
    is_control: bool = False


@dataclass(frozen=True, kw_only=True)
class ExperimentDescription:
    """One experiment, as its report needs it. Orders are kept: the first arm comes first.

    Attributes:
        name: Of the run.
        question: What the experiment asks.
        manifest: Of the whole collection, excluded cases included.
        tasks: What the heads learn.
        arms: By name.
        baselines: Titles of scores made without training a network, by name.
        reference: The arm or baseline that the others are compared with.
        subgroups: Titles by name.
        command: What to type to make the run and this report again.
        nsd_tolerance_mm: Of the normalised surface Dice.
        inner_fraction: Share of a fold's training patients that choose epoch, temperature
            and threshold.
        sensitivity: That thresholds were chosen for on these patients.
    """

    name: str
    question: str
    manifest: Manifest
    tasks: Sequence[Task]
    arms: Mapping[str, ArmDescription]
    baselines: Mapping[str, str]
    reference: str | None
    subgroups: Mapping[str, str]
    command: str
    nsd_tolerance_mm: float
    inner_fraction: float
    sensitivity: float

    @property
    def classifications(self) -> list[ClassificationTask]:
        """The tasks that give a lesion a class."""
        return [task for task in self.tasks if isinstance(task, ClassificationTask)]

    @property
    def segmentations(self) -> list[SegmentationTask]:
        """The tasks that outline a lesion."""
        return [task for task in self.tasks if isinstance(task, SegmentationTask)]

    @property
    def organs(self) -> list[OrganTask]:
        """The tasks that find the organs of a scan."""
        return [task for task in self.tasks if isinstance(task, OrganTask)]

    @property
    def looks_at_lesions(self) -> bool:
        """Whether any task is about lesions."""
        return bool(self.classifications or self.segmentations)

    def title_of(self, name: str) -> str:
        """What people call an arm or a baseline."""
        title = self.arms[name].title if name in self.arms else self.baselines.get(name, "")
        return title or name

    def subgroup_title(self, name: str) -> str:
        """What people call a subgroup."""
        return self.subgroups.get(name) or name

    def caution_of(self, name: str) -> str:
        """What must be said beside every number of an arm; empty for a baseline."""
        return self.arms[name].caution if name in self.arms else ""

    def is_control(self, name: str) -> bool:
        """Whether an arm is no result but shows what the input gives away."""
        return name in self.arms and self.arms[name].is_control

    def main_arm(self, task: str) -> str | None:
        """The arm that pictures are made of: the first with the task's head that is no control."""
        learning = [name for name, arm in self.arms.items() if task in arm.heads]
        models = [name for name in learning if not self.arms[name].is_control]
        return next(iter([*models, *learning]), None)

    def groups(self, present: Collection[str]) -> list[ArmGroup]:
        """Sorts the arms of a table into models, baselines and controls, in the order given."""
        arms = [name for name in self.arms if name in present]
        groups = [
            ArmGroup(title="Models", names=[arm for arm in arms if not self.is_control(arm)]),
            ArmGroup(
                title="Baselines: no network was trained",
                names=[name for name in self.baselines if name in present],
            ),
            ArmGroup(
                title="Controls: what the input gives away; not results",
                names=[arm for arm in arms if self.is_control(arm)],
                is_control=True,
            ),
        ]
        return [group for group in groups if group.names]

    def in_order(self, present: Collection[str]) -> list[str]:
        """The arms and baselines that are present: models, baselines, controls."""
        return [name for group in self.groups(present) for name in group.names]
