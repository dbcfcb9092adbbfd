import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.data.privacy.secret import Secret, make_secret, read_secret
from medmtl.errors import PrivacyError

KEY = Secret(key=bytes(range(32)))


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kept" / "secret"
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(path))
    return path


def test_a_secret_is_made_once_and_read_back(file: Path) -> None:
    assert make_secret() == file
    first = read_secret()
    assert len(first.key) == 32
    with pytest.raises(PrivacyError, match="never replaced"):
        make_secret()
    assert read_secret() == first


def test_only_its_owner_may_read_it(file: Path) -> None:
    make_secret()
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(PrivacyError, match="chmod 600"):
        read_secret()


def test_a_secret_in_the_output_is_refused(file: Path) -> None:
    make_secret()
    with pytest.raises(PrivacyError, match="given away"):
        read_secret(outside=file.parent)
    read_secret(outside=file.parent / "other")


@pytest.mark.parametrize("text", ["", "abc", "00" * 31, "zz" * 32, "ä" * 64])
def test_a_damaged_secret_is_refused(file: Path, text: str) -> None:
    make_secret()
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PrivacyError, match="backup"):
        read_secret()


def test_without_a_secret_the_command_that_makes_one_is_named() -> None:
    with pytest.raises(PrivacyError, match="medmtl secret"):
        read_secret()


def test_a_secret_is_not_printed() -> None:
    assert KEY.key.hex() not in repr(KEY)
    assert repr(KEY) == "Secret()"


def test_a_pseudonym_is_the_hmac() -> None:
    expected = hmac.new(KEY.key, b"patient\0Doe^Jane", hashlib.sha256).hexdigest()[:16]
    assert KEY.pseudonym("patient", "Doe^Jane") == expected


@given(st.text(), st.text())
def test_different_identifiers_kinds_and_secrets_have_different_pseudonyms(a: str, b: str) -> None:
    assert (KEY.pseudonym("patient", a) == KEY.pseudonym("patient", b)) == (a == b)
    assert KEY.pseudonym("patient", a) != KEY.pseudonym("series", a)
    assert KEY.pseudonym("patient", a) != Secret(key=bytes(32)).pseudonym("patient", a)
