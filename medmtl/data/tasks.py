"""What is to be learned from a lesion: its class, or its outline."""

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


Task = ClassificationTask | SegmentationTask
