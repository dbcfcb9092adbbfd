"""What each collection brought: patients, scans, lesions, labels, and organs that were drawn."""

from collections.abc import Mapping
from dataclasses import replace

from medmtl.data.manifest import Manifest
from medmtl.reporting.cohort_section import count, label_cards
from medmtl.reporting.description import ExperimentDescription, organ_name
from medmtl.reporting.numbers import count_entry
from medmtl.reporting.tables import Entry, Row, RowGroup, Table


def by_collection(manifest: Manifest) -> Mapping[str, Manifest]:
    """The parts of a manifest that each collection brought, by its name."""
    if not manifest.cards:
        return {manifest.card.name: manifest}
    parts = {}
    for name in manifest.cards:
        scans = tuple(scan for scan in manifest.scans if scan.collection == name)
        known = {scan.scan_id for scan in scans}
        lesions = tuple(lesion for lesion in manifest.lesions if lesion.scan_id in known)
        parts[name] = replace(manifest, scans=scans, lesions=lesions)
    return parts


def collection_table(description: ExperimentDescription) -> Table | None:
    """A row a collection; None where there is but one."""
    parts = by_collection(description.manifest.included())
    if len(parts) < 2:
        return None
    columns = ["Patients", "Scans"]
    if description.looks_at_lesions:
        columns += ["Lesions", "Patients without a lesion", "Outlined lesions"]
        columns += [f"Lesions with “{card.name}”" for card in label_cards(description)]
    if description.organs:
        columns.append("Scans with organs drawn")
    return Table(
        caption="Collections, excluded cases left out.",
        head="Collection",
        columns=columns,
        groups=[
            RowGroup(
                rows=[
                    Row(title=name, entries=_entries(part, description))
                    for name, part in parts.items()
                ]
            )
        ],
        remarks=["Where a label, an outline or an organ is missing, it has no part in the scores."],
    )


def _entries(part: Manifest, description: ExperimentDescription) -> list[Entry]:
    census = count(part)
    entries = [count_entry(census.patients), count_entry(census.scans)]
    if description.looks_at_lesions:
        outlined = sum(lesion.mask is not None for lesion in part.lesions)
        entries += [count_entry(census.lesions), count_entry(census.patients_without_lesion)]
        entries.append(count_entry(outlined))
        entries += [
            count_entry(sum(lesion.labels.get(card.name) is not None for lesion in part.lesions))
            for card in label_cards(description)
        ]
    if description.organs:
        wanted = {name for task in description.organs for name in task.structures}
        entries.append(count_entry(sum(bool(part.drawn(scan) & wanted) for scan in part.scans)))
    return entries


def organ_table(description: ExperimentDescription) -> Table | None:
    """A row an organ, a column a collection: on how many scans it was drawn."""
    organs = list(dict.fromkeys(name for task in description.organs for name in task.structures))
    if not organs:
        return None
    parts = by_collection(description.manifest.included())
    return Table(
        caption="Scans on which each organ was drawn.",
        head="Organ",
        columns=list(parts),
        groups=[
            RowGroup(
                rows=[
                    Row(
                        title=organ_name(organ),
                        entries=[
                            _of_scans(sum(organ in part.drawn(scan) for scan in part.scans), part)
                            for part in parts.values()
                        ],
                    )
                    for organ in organs
                ]
            )
        ],
        remarks=[
            "An organ that was not drawn on a scan may be there all the same: it is neither "
            "learned from nor scored on that scan."
        ],
    )


def _of_scans(drawn: int, part: Manifest) -> Entry:
    return Entry(text=f"{drawn} of {len(part.scans)}", value=drawn)
