import numpy as np
import pytest

from medmtl.data.audit import AuditEntry
from medmtl.data.contamination.exposure import Exposure, expose
from medmtl.data.contamination.near import fingerprint
from medmtl.data.privacy.secret import Secret
from medmtl.data.reading import Volume
from medmtl.errors import LeakageError
from medmtl.experiment.guard import Guard, seen_by, tell

SECRET = Secret(key=bytes(range(32)))


def entry(patient: str, fold: int, *, content: str = "", series: str = "") -> AuditEntry:
    return AuditEntry(
        patient_id=patient,
        scan_id=f"scan-{patient}",
        series_id=series,
        content_hash=content or f"content of {patient}",
        fold=fold,
    )


COHORT = [entry(f"p{number}", number % 2) for number in range(6)]


def test_a_clean_cohort_passes_and_is_counted() -> None:
    found = Guard().inspect(COHORT, {})
    assert found == {
        "scans": 6,
        "weights": {},
        "accepted": "",
        "near_duplicates": [],
        "alike_pairs": 0,
    }
    assert tell(found) == []


@pytest.mark.parametrize(
    ("twin", "message"),
    [
        (entry("p0", 1, content="other"), "the same patient"),
        (entry("q", 1, content="content of p0"), "the same image content"),
        (entry("q", 0, content="content of p0"), "of two patients"),
    ],
)
def test_a_patient_or_image_on_two_sides_is_refused(twin: AuditEntry, message: str) -> None:
    with pytest.raises(LeakageError, match=message):
        Guard().inspect([*COHORT, twin], {})


def test_a_series_under_two_patients_is_refused_in_one_fold_too() -> None:
    cohort = [entry("a", 0, series="s"), entry("b", 0, series="s"), entry("c", 1)]
    with pytest.raises(LeakageError, match="the same series: scan scan-a of patient a"):
        Guard().inspect(cohort, {})


def test_many_lesions_of_one_scan_and_series_are_no_duplicates() -> None:
    crops = [
        AuditEntry(patient_id="a", scan_id=f"crop{n}", series_id="s", content_hash=f"h{n}", fold=0)
        for n in range(4)
    ]
    assert Guard().inspect([*crops, entry("b", 1)], {})["scans"] == 5


def test_weights_that_saw_a_tested_image_are_refused_by_content_series_and_patient() -> None:
    pretrained = expose([entry("p1", 0), entry("elsewhere", 0)], secret=SECRET)
    guard = Guard(exposures={"pretrained": pretrained}, secret=SECRET)
    with pytest.raises(LeakageError) as refusal:
        guard.inspect(COHORT, {})
    assert "content, patient: scan scan-p1 of patient p1" in str(refusal.value)
    assert "start.accept_seen" in str(refusal.value)
    assert "1 of 6 scans" in str(refusal.value)


def test_another_scan_of_a_patient_who_was_seen_is_refused_under_the_secret() -> None:
    pretrained = expose([entry("p1", 0, content="last year's scan")], secret=SECRET)
    with pytest.raises(LeakageError, match="patient: scan scan-p1"):
        Guard(exposures={"a": pretrained}, secret=SECRET).inspect(COHORT, {})
    found = Guard(exposures={"a": pretrained}).inspect(COHORT, {})
    assert found["weights"]["a"] == {"images": 1, "seen": 0, "unchecked_lists": 1, "unknown": []}
    assert "by image content alone" in tell(found)[0]


def test_weights_that_saw_others_pass() -> None:
    guard = Guard(exposures={"a": expose([entry("x", 0)], secret=SECRET)}, secret=SECRET)
    found = guard.inspect(COHORT, {})
    assert found["weights"]["a"] == {"images": 1, "seen": 0, "unchecked_lists": 0, "unknown": []}
    assert tell(found) == []


def test_weights_from_elsewhere_pass_but_what_is_not_known_is_told() -> None:
    imported = Exposure(salt="0" * 32, contents=frozenset(), note="5,000 CT of others")
    later = expose([entry("x", 0)], secret=SECRET, before=[imported])
    guard = Guard(exposures={"a": imported, "b": later}, secret=SECRET)
    found = guard.inspect(COHORT, {})
    assert found["weights"]["a"]["unknown"] == ["5,000 CT of others"]
    assert found["weights"]["b"]["images"] == 1  # what was learnt here after it is checked
    lines = tell(found)
    assert len(lines) == 2 and all("imported with the words: 5,000 CT" in line for line in lines)


def test_an_override_is_told_with_its_reason() -> None:
    pretrained = expose(COHORT[:2], secret=None)
    guard = Guard(exposures={"a": pretrained}, accepted="to show the leak")
    found = guard.inspect(COHORT, {})
    assert found["weights"]["a"]["seen"] == 2
    assert found["accepted"] == "to show the leak"
    assert "have seen 2 of 6 scans; accepted: to show the leak" in tell(found)[0]


def test_many_sightings_are_counted_and_twenty_named() -> None:
    many = [entry(f"p{number}", number % 2) for number in range(50)]
    with pytest.raises(LeakageError) as refusal:
        Guard(exposures={"a": expose(many, secret=None)}).inspect(many, {})
    assert str(refusal.value).count("scan scan-p") == 20
    assert "... and 30 more" in str(refusal.value)
    assert len(seen_by(expose(many, secret=None), many, None)) == 50


def test_nearly_the_same_image_in_two_folds_is_told_but_not_refused() -> None:
    generator = np.random.default_rng(0)
    coarse = generator.normal(0, 300, (12, 12, 12))
    voxels = np.kron(coarse, np.ones((4, 4, 4))).astype(np.int16)
    other = np.kron(generator.normal(0, 300, (12, 12, 12)), np.ones((4, 4, 4))).astype(np.int16)
    noisy = (voxels + generator.normal(0, 10, voxels.shape)).astype(np.int16)[::-1]
    prints = {
        f"scan-p{number}": fingerprint(Volume(voxels=each, affine=np.eye(4)))
        for number, each in enumerate([voxels, noisy, other])
    }
    found = Guard().inspect(COHORT, prints)
    assert [pair["scans"] for pair in found["near_duplicates"]] == [["scan-p0", "scan-p1"]]
    assert "scan-p0 and scan-p1" in "\n".join(tell(found))
    same_fold = [entry("p0", 0), entry("p1", 0), entry("p2", 0)]
    assert Guard().inspect(same_fold, prints)["near_duplicates"] == []
