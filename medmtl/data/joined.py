"""Several collections as one: their scans side by side, each with the card it came with."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from medmtl.data.manifest import DataCard, Lesion, Manifest, Scan
from medmtl.errors import ManifestError, some_of

Value = TypeVar("Value")


def join_manifests(manifests: Sequence[Manifest]) -> Manifest:
    """Joins collections; a single one is given back as it is.

    A patient_id that two collections have is taken to be the same patient, and so is never
    split between folds. Organs of one name are one structure, whatever their label values.

    Args:
        manifests: As read, each sound in itself.

    Raises:
        ManifestError: Two collections have one name, one scan_id or lesion_id, or mean different
            things by one label; or a path leaves its data root.
    """
    if len(manifests) == 1:
        return manifests[0]
    cards = {manifest.card.name: manifest.card for manifest in manifests}
    _require_unique("name (in card.yaml)", [manifest.card.name for manifest in manifests])
    _require_unique("scan_id", [scan.scan_id for each in manifests for scan in each.scans])
    _require_unique("lesion_id", [one.lesion_id for each in manifests for one in each.lesions])
    root = Path(os.path.commonpath([manifest.data_root for manifest in manifests]))
    return Manifest(
        folder=root,
        card=_join_cards(manifests),
        scans=tuple(_scan(scan, each, root) for each in manifests for scan in each.scans),
        lesions=tuple(_lesion(one, each, root) for each in manifests for one in each.lesions),
        cards=cards,
    )


def _scan(scan: Scan, manifest: Manifest, root: Path) -> Scan:
    organs = scan.organ_mask
    return replace(
        scan,
        image=_from(root, manifest, scan.image),
        organ_mask=None if organs is None else _from(root, manifest, organs),
        collection=manifest.card.name,
    )


def _lesion(lesion: Lesion, manifest: Manifest, root: Path) -> Lesion:
    if lesion.mask is None:
        return lesion
    return replace(lesion, mask=_from(root, manifest, lesion.mask))


def _from(root: Path, manifest: Manifest, relative: str) -> str:
    return manifest.resolve(relative).relative_to(root).as_posix()


def _join_cards(manifests: Sequence[Manifest]) -> DataCard:
    """What reports say of the whole: each collection's words under its name."""
    cards = [manifest.card for manifest in manifests]
    structures = dict.fromkeys(name for card in cards for name in card.structures)
    return DataCard(
        name=" + ".join(card.name for card in cards),
        description=_each(cards, lambda card: card.description),
        body_region=", ".join(dict.fromkeys(card.body_region for card in cards)),
        data_root=".",
        licence=_each(cards, lambda card: card.licence),
        provenance=_each(cards, lambda card: card.provenance),
        lesion_structure=_lesion_structure(manifests),
        lesion_mask_reference_standard=_each(
            cards, lambda card: card.lesion_mask_reference_standard
        ),
        structures={name: value for value, name in enumerate(structures, start=1)},
        left_right_pairs=list(
            dict.fromkeys(pair for card in cards for pair in card.left_right_pairs)
        ),
        organ_mask_reference_standard=_each(cards, lambda card: card.organ_mask_reference_standard),
        labels=_agreed("label", [(card.name, card.labels) for card in cards]),
        measurements=_agreed("measurement", [(card.name, card.measurements) for card in cards]),
        exclusions=[exclusion for card in cards for exclusion in card.exclusions],
    )


def _each(cards: Sequence[DataCard], read: Callable[[DataCard], str]) -> str:
    said = {card.name: read(card) for card in cards if read(card)}
    return " ".join(f"{name}: {text.rstrip('.')}." for name, text in said.items())


def _lesion_structure(manifests: Sequence[Manifest]) -> str:
    outlined = {each.card.lesion_structure: each.card.name for each in manifests if each.lesions}
    if len(outlined) > 1:
        named = ", ".join(f"{structure!r} in {name}" for structure, name in outlined.items())
        raise ManifestError(
            f"collections outline different lesions: {named}; give their cards one word if they "
            "mean the same (lesion_structure), else train on one of them"
        )
    return next(iter(outlined), manifests[0].card.lesion_structure)


def _agreed(what: str, declared: Iterable[tuple[str, Mapping[str, Value]]]) -> dict[str, Value]:
    found: dict[str, tuple[str, Value]] = {}
    for collection, group in declared:
        for name, value in group.items():
            first, before = found.setdefault(name, (collection, value))
            if before != value:
                raise ManifestError(
                    f"the {what} {name!r} means one thing in {first} and another in {collection}; "
                    "make their cards agree, or rename one of the columns"
                )
    return {name: value for name, (_, value) in found.items()}


def _require_unique(what: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ManifestError(
            f"joined collections share the {what} {some_of(twice)}; rename them in "
            "one of the collections"
        )
