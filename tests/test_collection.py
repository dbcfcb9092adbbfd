"""No test is left out for the name of its folder."""

from fnmatch import fnmatch
from pathlib import Path


def test_every_folder_of_tests_is_looked_into(pytestconfig):
    home = Path(__file__).parent
    folders = {folder.name for file in home.rglob("test_*.py") for folder in file.parents}

    left_out = pytestconfig.getini("norecursedirs")

    inside = folders & {folder.name for folder in home.rglob("*")}
    assert "build" in inside
    assert not [name for name in inside for pattern in left_out if fnmatch(name, pattern)]
