"""A line of a table drawn: the AUC of every fold, their mean, and its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT, MARGIN = 150, 30, 7


@dataclass(frozen=True)
class StripScale:
    """The part of the AUC axis that all rows of a table share."""

    low: float

    def x(self, value: float) -> float:
        """Where a value lies, in pixels."""
        share = (value - self.low) / (1 - self.low)
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)


def strip_scale(values: Sequence[float]) -> StripScale:
    """A scale from a tenth below every value, and at most 0.5, to 1."""
    return StripScale(min([0.5, *(int(value * 10) / 10 for value in values)]))


def fold_strip(
    folds: Sequence[Mapping[str, Any]], mean: Mapping[str, Any], scale: StripScale
) -> Markup:
    """Draws one row.

    Args:
        folds: Of one output of the summary.
        mean: The interval of the folds' mean.
        scale: Shared by the table's rows.
    """
    middle = HEIGHT / 2 - 3
    parts = [Markup('<line x1="{}" x2="{}" y1="{y}" y2="{y}" class="axis"/>').format(
        scale.x(scale.low), scale.x(1.0), y=HEIGHT - 9)]  # fmt: skip
    for tick in (0.5, 1.0):
        parts.append(_tick(scale.x(tick), f"{tick:g}"))
    if mean["low"] is not None:
        parts.append(
            Markup('<line x1="{}" x2="{}" y1="{y}" y2="{y}" class="range"/>').format(
                scale.x(mean["low"]), scale.x(mean["high"]), y=middle
            )
        )
    for fold in folds:
        auc = fold["auc"]["estimate"]
        if auc is not None:
            parts.append(
                Markup('<circle cx="{}" cy="{}" r="3" class="fold"><title>{}</title></circle>')
                .format(scale.x(auc), middle, _fold_text(fold))
            )  # fmt: skip
    if mean["estimate"] is not None:
        x = scale.x(mean["estimate"])
        parts.append(
            Markup('<line x1="{x}" x2="{x}" y1="{}" y2="{}" class="mean"/>').format(
                middle - 7, middle + 7, x=x
            )
        )
    label = "; ".join(_fold_text(fold) for fold in folds)
    return Markup(
        '<svg class="strip" role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>'
    ).format(label, WIDTH, HEIGHT, Markup("").join(parts))


def _fold_text(fold: Mapping[str, Any]) -> str:
    auc = fold["auc"]["estimate"]
    value = "not estimable" if auc is None else f"{auc:.3f}"
    return (
        f"fold {fold['fold']}: {value} ({fold['positives']} positive, {fold['negatives']} negative)"
    )


def _tick(x: float, text: str) -> Markup:
    return Markup(
        '<line x1="{x}" x2="{x}" y1="{}" y2="{}" class="axis"/>'
        '<text x="{x}" y="{}" text-anchor="middle">{}</text>'
    ).format(HEIGHT - 11, HEIGHT - 9, HEIGHT - 1, text, x=x)
