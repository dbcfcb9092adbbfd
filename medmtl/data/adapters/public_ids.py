"""Ids of public series that are the same in every collection that holds them, without the UID."""

import hashlib


def series_label(uid: str) -> str:
    """The 8 characters that `medmtl scan` calls the series by."""
    return hashlib.sha256(uid.encode()).hexdigest()[:8]


def series_id_of(uid: str) -> str:
    """A manifest's series_id; LUNA16 and LIDC-IDRI so name the same series alike."""
    return f"series-{hashlib.sha256(uid.encode()).hexdigest()[:12]}"
