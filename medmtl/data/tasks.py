"""What is to be learned: of a lesion its class or its outline, of a scan its organs."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ClassificationTask:
    """Gives a lesion a class.

    Attributes:
        name: Of the head.
        label: Column of the manifest.
        classes: Names in the order of their numbers.
        window: Name of the window it looks at.
    """

    name: str
    label: str
    classes: tuple[str, ...]
    window: str

    @property
    def outputs(self) -> int:
        """How many logits: one for two classes, else one a class."""
        return 1 if len(self.classes) == 2 else len(self.classes)


@dataclass(frozen=True, kw_only=True)
class SegmentationTask:
    """Outlines the lesion at a position.

    Attributes:
        name: Of the head.
        structure: What a mask outlines.
        window: Name of the window it is trained on.
    """

    name: str
    structure: str
    window: str


@dataclass(frozen=True, kw_only=True)
class OrganTask:
    """Finds the organs of a whole scan.

    Attributes:
        name: Of the head.
        structures: One output each.
        left_right_pairs: Structures that a mirrored patient would swap.
        window: Name of the patch it is trained on.
    """

    name: str
    structures: tuple[str, ...]
    left_right_pairs: tuple[tuple[str, str], ...]
    window: str

    @property
    def mirrored(self) -> list[int]:
        """For each structure the place of what it is called in a mirrored patient."""
        other = {a: b for pair in self.left_right_pairs for a, b in (pair, pair[::-1])}
        return [self.structures.index(other.get(name, name)) for name in self.structures]


LesionTask = ClassificationTask | SegmentationTask
Task = ClassificationTask | SegmentationTask | OrganTask


def lesion_tasks(tasks: Sequence[Task]) -> list[LesionTask]:
    """The tasks that look at lesions."""
    return [task for task in tasks if not isinstance(task, OrganTask)]


def organ_tasks(tasks: Sequence[Task]) -> list[OrganTask]:
    """The tasks that look at whole scans."""
    return [task for task in tasks if isinstance(task, OrganTask)]
