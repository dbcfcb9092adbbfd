"""Where the numbers come from: versions, data, command, and every trained cell."""

from collections.abc import Mapping
from typing import Any

from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import CellFacts, Evidence
from medmtl.reporting.numbers import DASH, plural
from medmtl.reporting.tables import Entry, Row, RowGroup, Table


def provenance_items(
    evidence: Evidence, description: ExperimentDescription
) -> list[tuple[str, str]]:
    """What and its value, in the order of print."""
    found = evidence.provenance
    data: Mapping[str, Any] = found["data"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return [
        ("Run", description.name),
        ("Command", description.command),
        ("medmtl", f"{found['medmtl']}, commit {found['commit']}"),
        ("Python", found["python"]),
        ("Packages", packages),
        ("Configuration, SHA-256", found["config_sha256"]),
        ("Data", f"{data['name']}, {plural(data['scans'], 'scan')}"),
        ("Data, SHA-256 of contents", data["content_sha256"]),
        (
            "Resampling",
            f"{evidence.summary['bootstrap_samples']} bootstrap samples, "
            f"seed {evidence.summary['seed']}",
        ),
    ]


def cell_table(evidence: Evidence, description: ExperimentDescription) -> Table:
    """A row an arm, a column a fold: which epoch was chosen, of how many, and the seeds."""
    folds = sorted({cell.fold for cell in evidence.cells})
    by_place: dict[tuple[str, int], list[CellFacts]] = {}
    for cell in evidence.cells:
        by_place.setdefault((cell.arm, cell.fold), []).append(cell)
    rows = []
    for arm in description.in_order({cell.arm for cell in evidence.cells}):
        parameters = {
            cell.done["parameters"] for cell in evidence.cells if cell.arm == arm
        }  # an arm has one network
        rows.append(
            Row(
                title=description.title_of(arm),
                remark=arm,
                entries=[
                    *(_cell_entry(by_place.get((arm, fold), [])) for fold in folds),
                    Entry(text=" or ".join(f"{count:,}" for count in sorted(parameters))),
                ],
            )
        )
    return Table(
        caption="Every trained cell: the chosen epoch, of how many, and its seed.",
        head="Arm",
        columns=[*(f"Fold {fold}" for fold in folds), "Parameters"],
        groups=[RowGroup(rows=rows)],
        is_sortable=False,
    )


def _cell_entry(cells: list[CellFacts]) -> Entry:
    if not cells:
        return Entry(text=DASH, is_quiet=True)
    texts = [
        f"{cell.done['chosen_epoch']} of {cell.done['epochs']}"
        if cell.done["epochs"]
        else "fitted, without epochs"
        for cell in cells
    ]
    seeds = [f"seed {cell.seed}" for cell in cells]
    return Entry(text=", ".join(texts), details=seeds)
