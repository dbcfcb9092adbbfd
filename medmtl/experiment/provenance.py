"""Where a result comes from: versions, commit, and a digest of the data."""

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import medmtl
from medmtl.data.audit import AuditEntry
from medmtl.data.manifest import Manifest

PACKAGES = ["torch", "monai", "numpy", "scipy", "scikit-learn", "nibabel", "blosc2"]


def describe_provenance(
    manifest: Manifest, entries: Sequence[AuditEntry], config_text: str
) -> dict[str, Any]:
    """Describes a run; nothing in it names a user, a host or a path."""
    contents = sorted(entry.content_hash for entry in entries)
    return {
        **describe_software(config_text),
        "data": {
            "name": manifest.card.name,
            "licence": manifest.card.licence,
            "provenance": manifest.card.provenance,
            "scans": len(contents),
            "content_sha256": hashlib.sha256("\n".join(contents).encode()).hexdigest(),
            "excluded": [exclusion.model_dump() for exclusion in manifest.card.exclusions],
        },
    }


def describe_software(config_text: str) -> dict[str, Any]:
    """Versions, commit, and a digest of the configuration."""
    return {
        "medmtl": medmtl.__version__,
        "commit": git_commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "config_sha256": hashlib.sha256(config_text.encode()).hexdigest(),
    }


def git_commit() -> str:
    """The commit of the source, with "+changes" where files differ from it; else "unknown"."""
    folder = Path(medmtl.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = "+changes" if git("status", "--porcelain", "--", str(folder)) else ""
        return git("rev-parse", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
