"""The faults a user can mend, each ending a command with one message and exit code 2."""

from collections.abc import Iterable


def some_of(names: Iterable[object], most: int = 5) -> str:
    """The first names in order, for a message, and how many more there are."""
    texts = sorted(map(str, names))
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


class MedmtlError(Exception):
    """A fault a user can mend.

    The message says what was got, where, and how to mend it. The command line prints
    it without a traceback and exits with code 2. Messages name pseudonyms and relative
    paths only, never a patient's identifiers.
    """


class ConfigError(MedmtlError):
    """A configuration that cannot be used: a mistyped key, a value out of range."""


class ManifestError(MedmtlError):
    """A manifest whose tables or card are wrong, or that points at what is not there."""


class ScanError(MedmtlError):
    """An image or mask that cannot be read, or must not be used as it is."""


class LeakageError(MedmtlError):
    """Patients or image content that would cross from training into testing."""


class RunError(MedmtlError):
    """A run folder that is missing, belongs to another plan, or cannot be written."""


class TrainingError(MedmtlError):
    """A training that cannot go on: no labelled case, one class only, a loss not finite."""


class EvaluationError(MedmtlError):
    """Predictions that cannot be evaluated: of another cohort, incomplete, not numbers."""


class TrackingError(MedmtlError):
    """A tracking server that cannot be reached, or refuses what is sent; training goes on."""


class PrivacyError(MedmtlError):
    """What could identify a patient where it must not, or a secret that cannot be used."""
