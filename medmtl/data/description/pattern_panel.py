"""Which labels come together: dots for the tasks of a combination, a bar for its scans."""

from typing import Any

from medmtl.data.description.describe import ManifestDescription

MOST_PATTERNS = 14
INK, OFF = "#1c1c1c", "#d4d4d4"


def draw_patterns(part: Any, manifest: ManifestDescription) -> None:
    """Draws the combinations of labels of a collection, commonest first.

    Args:
        part: A subfigure of its own.
        manifest: What to draw.

    Source:
        Lex et al., UpSet, IEEE TVCG 20 (2014) 1983.
    """
    shown = manifest.patterns[:MOST_PATTERNS]
    rest = manifest.patterns[MOST_PATTERNS:]
    tasks = [task.name for task in manifest.tasks]
    bars, dots = part.subplots(2, 1, sharex=True, height_ratios=[1, 1.3])
    bars.bar(range(len(shown)), [pattern.scans for pattern in shown], color=INK, width=0.6)
    for place, pattern in enumerate(shown):
        bars.text(place, pattern.scans, str(pattern.scans), ha="center", va="bottom", fontsize=7)
        rows = [row for row, task in enumerate(tasks) if task in pattern.tasks]
        for row in range(len(tasks)):
            dots.plot(place, row, "o", color=INK if row in rows else OFF, markersize=4.5)
        if rows:
            dots.plot([place, place], [rows[0], rows[-1]], color=INK, linewidth=1)
    title = "Labels on the same scan (scans)"
    if rest:
        title += f"; {len(rest)} rarer: {sum(pattern.scans for pattern in rest)} scans"
    bars.set_title(title)
    bars.margins(y=0.2)
    bars.set_xlim(-0.6, max(len(shown), 6) - 0.4)
    bars.tick_params(bottom=False)
    dots.set_yticks(range(len(tasks)), tasks)
    dots.set_ylim(max(len(tasks), 1) - 0.5, -0.5)
    dots.tick_params(length=0, labelbottom=False)
    for side in dots.spines.values():
        side.set_visible(False)
