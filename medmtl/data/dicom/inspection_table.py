"""Shows what a folder holds as a table of at most 80 columns, without identifiers."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medmtl.data.dicom.inspection import InspectedSeries, Inspection

WIDTH = 80
SHOWN = 10


def print_inspection(inspection: Inspection, console: Console, *, uids: bool = False) -> None:
    """Prints a row a series, and below what is wrong or worth knowing.

    Args:
        inspection: Of a folder.
        console: Where to.
        uids: Whether SeriesInstanceUIDs are printed too, which identify patients.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("series", "no.", "kind", "files", "voxels", "spacing mm", "thick", "kernel"):
        right = title in ("no.", "files")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for each in inspection.series:
        table.add_row(*_cells(each))
    console.print(table, width=WIDTH)
    for line in _remarks(inspection, uids=uids):
        # As text: square brackets would be taken for styles.
        console.print(Text(line), width=WIDTH)


def _cells(inspected: InspectedSeries) -> list[str]:
    series, grid = inspected.series, inspected.grid
    kind = f"{series.modality or '?'} {inspected.orientation}".strip()
    return [
        series.label,
        "" if series.number is None else str(series.number),
        kind,
        str(len(series.headers)),
        "refused" if grid is None else " x ".join(str(each) for each in grid.shape),
        "" if grid is None else " x ".join(f"{each:.3g}" for each in grid.spacing_mm),
        " ".join(f"{each:g}" for each in inspected.thickness_mm[:2]),
        " ".join(inspected.kernels[:2]),
    ]


def _remarks(inspection: Inspection, *, uids: bool) -> list[str]:
    lines = []
    for each in inspection.series:
        label = each.series.label
        lines += [f"{label}: UID {each.series.uid}"] if uids else []
        lines += [f"{label}: refused: {each.problem}"] if each.problem is not None else []
        lines += [f"{label}: {note}" for note in each.notes]
    lines += [f"not read: {fault}" for fault in inspection.faults[:SHOWN]]
    hidden = len(inspection.faults) - SHOWN
    return [*lines, f"not read: {hidden} more files"] if hidden > 0 else lines
