"""A secret for every test."""

from pathlib import Path

import pytest

from medmtl.data.privacy.secret import make_secret


@pytest.fixture(autouse=True)
def secret(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("kept") / "secret"
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(path))
    return make_secret()
