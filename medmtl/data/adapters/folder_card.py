"""The card that a user writes for their own table, and the template to write it from."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medmtl.data.adapters.table import Row
from medmtl.data.manifest import DataCard
from medmtl.data.manifest_files import parse_card, read_card_yaml
from medmtl.errors import ManifestError
from medmtl.run_folder import write_text

IGNORE = "ignore"
FEW_CLASSES = 10
HEADER = """\
# The data card of {table}. Fill in every empty text, then import with --card {card}.
# labels: the order of `classes` is the number in the table; say in `reference_standard` who or
#   what decided the label (pathology, follow-up, readers' opinion, ...).
# measurements: further numbers of a lesion, and what they are.
# body_region: chest, head and neck, ...; heads answer only about the regions they were trained on.
# structures: the value of each organ in the organ masks, e.g. {{left_lung: 1, right_lung: 2}}.
# left_right_pairs: organs that a mirrored patient would swap, e.g. [[left_lung, right_lung]].
# ignore: columns that are not read.
"""


@dataclass(frozen=True, kw_only=True)
class UserCard:
    """A user's card: the data card, and the columns that they do not want read."""

    card: DataCard
    ignored: frozenset[str]


def read_user_card(path: Path, *, data_root: Path, out: Path) -> UserCard:
    """Reads the card that a user wrote.

    Args:
        path: The YAML file.
        data_root: The folder of the images; the card must not name it.
        out: The manifest's folder.

    Raises:
        ManifestError: Names every key that is wrong, and each label without a reference standard.
    """
    content = read_card_yaml(path)
    if not isinstance(content, dict):
        raise ManifestError(f"{path.name}: a card is a list of 'key: value' lines")
    if "data_root" in content:
        raise ManifestError(f"{path.name}: data_root: leave it out, it is the table's folder")
    ignored = content.pop(IGNORE, None) or []
    if not isinstance(ignored, list):
        raise ManifestError(f"{path.name}: {IGNORE}: must be a list of columns")
    _require_reference_standards(content.get("labels"), path)
    root = Path(os.path.relpath(data_root.resolve(), out.resolve())).as_posix()
    card = parse_card({**content, "data_root": root}, file=path.name)
    return UserCard(card=card, ignored=frozenset(str(column) for column in ignored))


def _require_reference_standards(labels: object, path: Path) -> None:
    if not isinstance(labels, dict):
        return  # whoever reads the whole card says what is wrong with it
    unsaid = [
        str(name)
        for name, label in labels.items()
        if isinstance(label, dict) and not str(label.get("reference_standard") or "").strip()
    ]
    if unsaid:
        raise ManifestError(
            f"{path.name}: labels {', '.join(unsaid)}: say in reference_standard what decided them"
        )


def write_template_card(table: Path, rows: Sequence[Row], columns: Iterable[str]) -> Path:
    """Writes a card to be filled in beside a table, guessing what its further columns are.

    A card that is there already is left as it is.

    Args:
        table: The user's table.
        rows: Its rows.
        columns: Those that are not read as a path, an id, or a position.

    Returns:
        The path of the card.
    """
    path = table.with_name(f"{table.stem}.card.yaml")
    if path.exists():
        return path
    body = yaml.safe_dump(_template(table.stem, rows, columns), sort_keys=False, allow_unicode=True)
    write_text(path, HEADER.format(table=table.name, card=path.name) + body)
    return path


def _template(name: str, rows: Sequence[Row], columns: Iterable[str]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": name,
        "description": "",
        "body_region": "",
        "licence": "",
        "provenance": "",
        "lesion_structure": "lesion",
        "lesion_mask_reference_standard": "",
        "structures": {},
        "left_right_pairs": [],
        "organ_mask_reference_standard": "",
        "labels": {},
        "measurements": {},
        IGNORE: [],
    }
    for column in columns:
        texts = [row.text(column) for row in rows if row.text(column)]
        classes = _count_classes(texts)
        if classes:
            names = [f"class {number}" for number in range(classes)]
            content["labels"][column] = {"classes": names, "reference_standard": ""}
        elif texts and all(_is_number(text) for text in texts):
            content["measurements"][column] = ""
        else:
            content[IGNORE].append(column)
    return content


def _count_classes(texts: Sequence[str]) -> int:
    """How many classes a column of class numbers has; 0 if it is not one."""
    numbers = {int(text) for text in texts if text.isdecimal()}
    if len(numbers) < 1 or not all(text.isdecimal() for text in texts):
        return 0
    return max(2, max(numbers) + 1) if max(numbers) < FEW_CLASSES else 0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
