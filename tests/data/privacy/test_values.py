from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data.privacy.allowed import ALLOWED, FRAMES, contrast, vendor
from medmtl.data.privacy.dates import age_band, days_back, shift_date
from medmtl.data.privacy.functional_groups import known_kinds
from medmtl.data.privacy.identity import Identity
from medmtl.data.privacy.kernels import kernel
from medmtl.data.privacy.secret import Secret
from medmtl.data.privacy.values import Items, binaries, decimals, wholes
from tests.data.privacy.planting import NEEDLE

WHOSE = Identity(secret=Secret(key=bytes(32)), patient_id="7", issuer="", study="1.2.3")


def checks_of(table: Any) -> list[tuple[str, Any]]:
    found = []
    for keyword, check in table.items():
        found += checks_of(check.table) if isinstance(check, Items) else [(keyword, check)]
    return found


CHECKS = [each for each in checks_of(ALLOWED | FRAMES) if each[0] != "AnatomicRegionSequence"]


@settings(max_examples=20, deadline=None)
@given(
    value=st.one_of(
        st.text(max_size=20),
        st.lists(st.text(max_size=9), max_size=9),
        st.binary(max_size=9),
        st.floats(),
        st.integers(),
    )
)
def test_no_text_passes_any_check(value: Any) -> None:
    marked = f"SECRET{value}" if isinstance(value, str) else [value, "SECRET"]
    for keyword, check in CHECKS:
        for tried in (marked, [marked], ["120", "SECRET"], "SECRET", b"SECRET"):
            passed = str(check(tried, WHOSE))
            assert not NEEDLE.search(passed.encode("utf-8", "replace")), keyword


@pytest.mark.parametrize(
    "text", ["1_000", "١٢٣", "0x12", "nan", "inf", "1e999", "1;DROP", "１２", ""]
)
def test_only_plain_numbers_are_numbers(text: str) -> None:
    assert decimals(-1e9, 1e9)(text, WHOSE) is None
    assert wholes(-(10**9), 10**9)(text, WHOSE) is None
    assert binaries(-1e9, 1e9)(text, WHOSE) is None


def test_numbers_stay_as_they_are_written() -> None:
    assert decimals(-9, 9, 2)(["0.9765625", "+1.50E0"], WHOSE) == ["0.9765625", "+1.50E0"]
    assert decimals(-9, 9)("0.12345678901234567", WHOSE) == ["0.12345678901235"]
    assert decimals(0, 9)("-1", WHOSE) is None
    assert wholes(0, 9)("3.0", WHOSE) == [3]
    assert wholes(0, 9)("3.5", WHOSE) is None


@pytest.mark.parametrize(
    "code",
    ["B30f", "B70s", "I31f", "Br40d", "Hr38", "Qr40", "STANDARD", "BONEPLUS", "Lung", "FC08-H",
     "FC51", "YA", "C", "B"],
)  # fmt: skip
def test_known_kernels_pass(code: str) -> None:
    assert kernel(code, WHOSE) == [code]


def test_a_kernel_with_its_strength_passes() -> None:
    assert kernel(["I70f", "3"], WHOSE) == ["I70f", "3"]


@pytest.mark.parametrize(
    "code", ["SECRET", "B30fSECRET", "Mueller", "19500101", "M12345", "", "S1"]
)
def test_other_kernels_do_not(code: str) -> None:
    assert kernel(code, WHOSE) is None


def test_vendors_are_named_as_the_list_names_them() -> None:
    assert vendor("Siemens Healthineers of SECRET", WHOSE) == "SIEMENS"
    assert vendor("GE MEDICAL SYSTEMS", WHOSE) == "GE MEDICAL SYSTEMS"
    assert vendor("GEORGE", WHOSE) is None
    assert vendor("SECRET", WHOSE) is None


def test_contrast_is_yes_or_nothing() -> None:
    assert [contrast(each, WHOSE) for each in ("Iopamidol 370", "none", "")] == ["YES", None, None]


@pytest.mark.parametrize(
    ("said", "length", "kept"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], 3, ["ORIGINAL", "PRIMARY", "AXIAL"]),
        (["ORIGINAL", "PRIMARY"], 3, ["ORIGINAL", "PRIMARY", "AXIAL"]),
        (["DERIVED", "SECONDARY", "SECRET", "MPR"], 3, ["DERIVED", "SECONDARY", "AXIAL", "MPR"]),
        (["ORIGINAL", "SECRET", "AXIAL"], 3, None),
        (["SECRET", "PRIMARY"], 3, None),
        (["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], 4, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
    ],
)
def test_kinds_are_known_words(said: list[str], length: int, kept: list[str] | None) -> None:
    assert known_kinds(said, length=length) == kept


@pytest.mark.parametrize(
    ("age", "born", "scanned", "band"),
    [
        ("063Y", "", "", "060Y"), ("089Y", "", "", "085Y"), ("090Y", "", "", "090Y"),
        ("104Y", "", "", "090Y"), ("011M", "", "", "000Y"), ("", "19500101", "20200303", "070Y"),
        ("63", "", "", None), ("SECRET", "SECRET", "20200303", None), ("", "", "", None),
        ("", "20210101", "20200303", None), ("999Y", "", "", None),
    ],
)  # fmt: skip
def test_ages_are_bands(age: str, born: str, scanned: str, band: str | None) -> None:
    assert age_band(age, born, scanned) == band


@given(days=st.integers(1, 3650))
def test_dates_move_by_whole_days(days: int) -> None:
    assert shift_date("20200230", days) is None
    assert shift_date("SECRET", days) is None
    assert shift_date("2020.03.01", days) == shift_date("20200301", days)


@given(digest=st.binary(min_size=32, max_size=32))
def test_every_date_is_moved(digest: bytes) -> None:
    assert 1 <= days_back(digest) <= 3650


def test_a_uid_of_a_patient_is_a_uid() -> None:
    made = WHOSE.uid("1.2.840.SECRET")
    assert made.startswith("2.25.") and len(made) <= 64 and made[5:].isdigit()
    assert made == WHOSE.uid("1.2.840.SECRET") != WHOSE.uid("1.2.840.OTHER")
    assert "7" not in repr(WHOSE) and "1.2.3" not in repr(WHOSE)
