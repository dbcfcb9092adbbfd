"""Takes one patient out of a manifest and out of the cache."""

import json
from collections.abc import Set
from contextlib import suppress
from dataclasses import replace

import pandas as pd

from medmtl.data.building.contents import CONTENTS, JOURNAL
from medmtl.data.cache import CaseCache
from medmtl.data.contamination.facts import KIND as FACTS
from medmtl.data.manifest import Manifest
from medmtl.data.manifest_files import write_manifest
from medmtl.run_folder import write_table


def without_patient(manifest: Manifest, patient_id: str) -> Manifest:
    """The manifest without a patient's scans, lesions, and exclusions of them."""
    gone = {scan.scan_id for scan in manifest.scans if scan.patient_id == patient_id}
    lesions = {each.lesion_id for each in manifest.lesions if each.scan_id in gone}
    kept = [each for each in manifest.card.exclusions if each.id not in gone | lesions]
    return replace(
        manifest,
        card=manifest.card.model_copy(update={"exclusions": kept}),
        scans=tuple(scan for scan in manifest.scans if scan.scan_id not in gone),
        lesions=tuple(each for each in manifest.lesions if each.scan_id not in gone),
    )


def forget_in_manifest(manifest: Manifest, patient_id: str) -> None:
    """Writes a manifest anew without a patient; images stay where they are."""
    gone = {scan.scan_id for scan in manifest.scans if scan.patient_id == patient_id}
    contents = manifest.folder / CONTENTS
    if contents.is_file():
        table = pd.read_csv(contents, dtype=str, keep_default_na=False)
        write_table(contents, table[~table["scan_id"].isin(gone)])
    (manifest.folder / JOURNAL).unlink(missing_ok=True)  # of a build that was stopped
    write_manifest(without_patient(manifest, patient_id))


def forget_in_cache(cache: CaseCache, contents: Set[str]) -> int:
    """Removes what was made of a patient's images, wherever copies of them lay.

    Args:
        cache: The folder.
        contents: Content hashes of the patient's images.

    Returns:
        How many cached cases were removed.
    """
    removed = 0
    for case in cache.cases():
        with suppress(OSError, ValueError):  # another process may trim, too
            facts = json.loads((case / "case.json").read_text(encoding="utf-8"))
            if facts["content_hash"] in contents:
                cache.remove(case)
                removed += 1
    for remembered in cache.remembered(FACTS):
        with suppress(OSError, ValueError):
            if json.loads(remembered.read_text(encoding="utf-8"))[0] in contents:
                remembered.unlink()
    return removed
