"""Says what a synthetic cohort holds, and what it lacks."""

from collections.abc import Iterator

from medmtl.data.manifest import CARD, Manifest
from medmtl.data.phantom.files import LESION_STRUCTURE
from medmtl.data.phantom.tissue import STRUCTURES


def describe_cohort(manifest: Manifest) -> str:
    """A few lines for the terminal: how much there is, what is missing, and where it lies."""
    count = len(manifest.scans)
    lines = [f"{manifest.card.name}: {count} scans, {len(manifest.lesions)} lesions"]
    lines += [
        f"  without {what}: {lacking} of {count} scans"
        for what, lacking in _lacking(manifest)
        if lacking
    ]
    lines.append(f"manifest: {manifest.folder / CARD}")
    lines += [
        f"{name + ':':<9} {manifest.data_root / name}"
        for name in ("images", "organs", "masks", "dicom")
        if (manifest.data_root / name).is_dir()
    ]
    return "\n".join(lines)


def _lacking(manifest: Manifest) -> Iterator[tuple[str, int]]:
    """How many scans lack each thing; those that lack everything are counted under each."""
    labelled = {
        lesion.scan_id
        for lesion in manifest.lesions
        if all(label is not None for label in lesion.labels.values())
    }
    annotated = [scan.annotated for scan in manifest.scans]
    yield "any annotation", sum(not names for names in annotated)
    yield "class labels", sum(scan.scan_id not in labelled for scan in manifest.scans)
    yield "lesion masks", sum(LESION_STRUCTURE not in names for names in annotated)
    yield "any organ mask", sum(scan.organ_mask is None for scan in manifest.scans)
    for structure in STRUCTURES:
        yield structure, sum(structure not in names for names in annotated)
