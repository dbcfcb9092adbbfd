"""A user's regular expression whose one group is a part of a path."""

import re

from medmtl.errors import MedmtlError


def compile_patient_from(text: str, error: type[MedmtlError]) -> re.Pattern[str]:
    """Compiles what was given as --patient-from.

    Args:
        text: The expression.
        error: What to raise.

    Raises:
        MedmtlError: `error`, if it is no regular expression, or has not one group.
    """
    try:
        compiled = re.compile(text)
    except re.error as fault:
        raise error(f"--patient-from: no regular expression: {fault}") from None
    if compiled.groups != 1:
        raise error(
            f"--patient-from: has {compiled.groups} groups; put one pair of round brackets around "
            "what is the patient, as in '([^/]+)_ct'"
        )
    return compiled
