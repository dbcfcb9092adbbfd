import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.data.audit import AuditEntry
from medmtl.data.contamination.exposure import Exposure, expose
from medmtl.data.privacy.secret import Secret
from medmtl.errors import RunError

OURS, THEIRS = Secret(key=bytes(range(32))), Secret(key=bytes(32))


def entry(patient: str, *, series: str = "", content: str = "") -> AuditEntry:
    return AuditEntry(
        patient_id=patient,
        scan_id=f"scan of {patient}",
        series_id=series,
        content_hash=content or f"content of {patient}",
        fold="train",
    )


def test_whoever_has_a_scan_can_check_its_content_without_a_secret() -> None:
    seen = expose([entry("a"), entry("b")], secret=OURS)
    assert seen.sightings(entry("new", content="content of a"), None) == ["content"]
    assert seen.sightings(entry("new"), None) == []


def test_only_the_owner_of_the_secret_finds_patients_and_series() -> None:
    seen = expose([entry("a", series="s")], secret=OURS)
    again = entry("a", series="s", content="another scan")
    assert seen.sightings(again, OURS) == ["series", "patient"]
    assert seen.sightings(again, THEIRS) == []
    assert (seen.unchecked(OURS), seen.unchecked(THEIRS), seen.unchecked(None)) == (0, 1, 1)


def test_scans_without_a_series_do_not_share_one() -> None:
    seen = expose([entry("a")], secret=OURS)
    assert seen.sightings(entry("b"), OURS) == []


def test_what_was_seen_before_counts_too() -> None:
    first = expose([entry("a")], secret=OURS)
    second = expose([entry("b")], secret=OURS, before=[first])
    third = expose([entry("c")], secret=None, before=[second])
    for patient in "abc":
        assert third.sightings(entry(patient), OURS)[0] == "content"
    assert third.count == 3
    assert third.unchecked(OURS) == 1


def test_a_note_stands_for_what_cannot_be_listed() -> None:
    imported = Exposure(salt="0" * 32, contents=frozenset(), note="5,000 CT of others")
    later = expose([entry("a")], secret=OURS, before=[imported])
    again = Exposure.from_dict(json.loads(json.dumps(later.to_dict())))
    assert again == later and again.notes == ["5,000 CT of others"]
    assert (again.count, again.unchecked(OURS)) == (1, 0)
    unnoted = expose([entry("a")], secret=OURS).to_dict()
    del unnoted["note"]
    assert Exposure.from_dict(unnoted).notes == []


def test_a_checkpoint_keeps_no_id_and_no_hash_as_it_is() -> None:
    kept = json.dumps(expose([entry("a", series="series s")], secret=OURS).to_dict())
    for told in ("content of a", "series s", '"a"', OURS.key.hex()):
        assert told not in kept


def test_two_checkpoints_of_the_same_scans_cannot_be_compared_by_others() -> None:
    one, other = (expose([entry("a")], secret=None) for _ in range(2))
    assert not one.contents & other.contents


def test_the_same_salt_gives_the_same_list() -> None:
    entries = [entry("b"), entry("a")]
    one = expose(entries, secret=OURS, salt="ab" * 16)
    other = expose(entries[::-1], secret=OURS, salt="ab" * 16)
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())


@given(st.lists(st.text(max_size=5), max_size=5), st.booleans(), st.booleans())
def test_a_list_is_read_back_as_it_was(patients: list[str], owned: bool, earlier: bool) -> None:
    before = [expose([entry("early")], secret=THEIRS)] if earlier else []
    seen = expose([entry(each) for each in patients], secret=OURS if owned else None, before=before)
    assert Exposure.from_dict(json.loads(json.dumps(seen.to_dict()))) == seen


@pytest.mark.parametrize(
    "plain", [{}, {"salt": 1}, {**expose([], secret=None).to_dict(), "before": 3}]
)
def test_a_damaged_list_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(RunError, match="damaged"):
        Exposure.from_dict(plain)
