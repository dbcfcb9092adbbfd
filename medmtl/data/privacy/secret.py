"""The project's secret: what turns identifiers into pseudonyms that nobody else can make.

A plain hash of an identifier is no pseudonym: whoever has a list of patients hashes it and
compares. Keyed by a secret, only its owner can (HMAC, RFC 2104). Lost, no pseudonym can be made
again, and scans that come later no longer meet those of the same patient: it wants a backup.

It lies in one file that only its owner reads: `MEDMTL_SECRET_FILE`, or else
`~/.config/medmtl/secret`. It never lies in a folder that is given away.
"""

import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from medmtl.errors import PrivacyError

VARIABLE = "MEDMTL_SECRET_FILE"
SECRET_BYTES = 32
PSEUDONYM_DIGITS = 16  # 64 bits: of a million identifiers, two share one in 1 of 37 million cases


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A key that is never printed.

    Attributes:
        key: 32 random bytes.
    """

    key: bytes = field(repr=False)

    def pseudonym(self, kind: str, identifier: str) -> str:
        """What stands for an identifier: the same for the same, and for nobody else.

        Args:
            kind: Of the identifier, such as `patient` or `series`; the same text of two kinds
                has two pseudonyms.
            identifier: As it stands in the source.

        Returns:
            16 hexadecimal digits.
        """
        return self.digest(kind, identifier).hex()[:PSEUDONYM_DIGITS]

    def digest(self, kind: str, identifier: str) -> bytes:
        """The 32 bytes that pseudonyms, UIDs and shifts of dates are made of."""
        return hmac.digest(
            self.key, f"{kind}\0{identifier}".encode("utf-8", "surrogatepass"), "sha256"
        )


def secret_file() -> Path:
    """Where the secret lies, or would."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path.home() / ".config" / "medmtl" / "secret"


def read_secret(*, outside: Path | None = None) -> Secret:
    """Reads the project's secret.

    Args:
        outside: A folder that is given away, in which it must not lie.

    Raises:
        PrivacyError: There is none, others may read it, it is damaged, or it lies in `outside`.
    """
    path = secret_file()
    if outside is not None and path.resolve().is_relative_to(outside.resolve()):
        raise PrivacyError(
            "the secret lies in the folder of the output, which may be given away; move it out, "
            f"and name its new place in {VARIABLE}"
        )
    try:
        text = path.read_text(encoding="ascii").strip()
        open_to_others = os.name == "posix" and path.stat().st_mode & 0o077
    except FileNotFoundError:
        raise PrivacyError(
            f"there is no secret; make one with 'medmtl secret', or name its file in {VARIABLE}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PrivacyError("the secret cannot be read; put back your backup of it") from error
    if open_to_others:
        raise PrivacyError("others may read the secret; take their right away with chmod 600")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != SECRET_BYTES:
        raise PrivacyError(
            f"the secret is damaged: {2 * SECRET_BYTES} hexadecimal digits were expected; put back "
            "your backup of it"
        )
    return Secret(key=key)


def find_secret() -> Secret | None:
    """The project's secret, None if it has none; refuses one that cannot be used."""
    return read_secret() if secret_file().exists() else None


def make_secret() -> Path:
    """Makes the project's secret and returns its file; one that is there is never replaced.

    Raises:
        PrivacyError: There is one already, or its folder cannot be written.
    """
    path = secret_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise PrivacyError(
            "there is a secret already; all pseudonyms hang on it, so it is never replaced"
        ) from None
    except OSError as error:
        raise PrivacyError(
            f"the secret cannot be written ({error.strerror}); name another file in {VARIABLE}"
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(SECRET_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return path
