from dataclasses import replace
from pathlib import Path

import pytest

from medmtl.data.joined import join_manifests
from medmtl.data.manifest import DataCard, Exclusion, Label, Lesion, Manifest, Scan
from medmtl.errors import ManifestError

MALIGNANT = Label(classes=["benign", "malignant"], reference_standard="pathology")


def collection(
    folder: Path, name: str, *, lesions: bool = False, patients: int = 2, **card: object
) -> Manifest:
    """A collection in `folder/name`, its images in `folder/name-images`."""
    scans = tuple(
        Scan(
            scan_id=f"{name}-{n}",
            patient_id=f"{name}-p{n}",
            series_id=f"{name}-s{n}",
            image=f"images/{n}.nii.gz",
            organ_mask=None if lesions else f"organs/{n}.nii.gz",
            annotated=frozenset({"nodule"}) if lesions else frozenset({"heart"}),
        )
        for n in range(patients)
    )
    found = tuple(
        Lesion(
            lesion_id=f"{name}-l{n}",
            scan_id=f"{name}-{n}",
            position_mm=(0.0, 0.0, 0.0),
            mask=f"masks/{n}.nii.gz" if n else None,
            labels={"malignant": n % 2},
        )
        for n in range(patients if lesions else 0)
    )
    usual = {"data_root": f"../{name}-images", "body_region": "chest"}
    return Manifest(
        folder=folder / name,
        card=DataCard(**{"name": name, **usual, **card}),
        scans=scans,
        lesions=found,
    )


@pytest.fixture
def pair(tmp_path: Path) -> list[Manifest]:
    """A collection of lesions, and one of organs."""
    nodules = collection(
        tmp_path, "nodules", lesions=True, labels={"malignant": MALIGNANT},
        lesion_structure="nodule", measurements={"subtlety": "1 to 5"}, licence="CC BY 3.0",
    )  # fmt: skip
    organs = collection(
        tmp_path, "organs", structures={"heart": 1, "left_lung": 2, "right_lung": 3},
        left_right_pairs=[("left_lung", "right_lung")], licence="CC0", body_region="thorax",
    )  # fmt: skip
    return [nodules, organs]


def test_one_collection_is_given_back_as_it_is(pair: list[Manifest]) -> None:
    assert join_manifests(pair[:1]) is pair[0]


def test_scans_and_lesions_lie_side_by_side_in_their_order(pair: list[Manifest]) -> None:
    joined = join_manifests(pair)
    assert [s.scan_id for s in joined.scans] == [s.scan_id for m in pair for s in m.scans]
    assert [le.lesion_id for le in joined.lesions] == [e.lesion_id for e in pair[0].lesions]
    for own in pair:
        for scan in own.scans:
            there = joined.scan(scan.scan_id)
            assert there.patient_id == scan.patient_id
            assert there.annotated == scan.annotated
            assert there.collection == own.card.name


def test_every_path_still_leads_to_its_file(pair: list[Manifest]) -> None:
    joined = join_manifests(pair)
    for own in pair:
        for scan in own.scans:
            there = joined.scan(scan.scan_id)
            assert joined.resolve(there.image) == own.resolve(scan.image)
            assert (there.organ_mask is None) == (scan.organ_mask is None)
            if scan.organ_mask is not None and there.organ_mask is not None:
                assert joined.resolve(there.organ_mask) == own.resolve(scan.organ_mask)
        for lesion, there in zip(own.lesions, joined.lesions, strict=False):
            if lesion.mask is not None and there.mask is not None:
                assert joined.resolve(there.mask) == own.resolve(lesion.mask)
            assert (lesion.mask is None) == (there.mask is None)


@pytest.mark.parametrize("bad", ["../organs-images/1.nii.gz", "a/../../b.nii.gz", "/etc/passwd"])
@pytest.mark.parametrize("which", ["image", "organ_mask"])
def test_a_path_that_leaves_its_own_collection_is_refused(pair, bad: str, which: str) -> None:
    """Even where it would lie below the root of all."""
    nodules, organs = pair
    first, *others = nodules.scans
    crooked = replace(nodules, scans=(replace(first, **{which: bad}), *others))
    with pytest.raises(ManifestError, match="leaves the data root"):
        join_manifests([crooked, organs])


def test_a_lesion_mask_that_leaves_its_collection_is_refused(pair: list[Manifest]) -> None:
    nodules, organs = pair
    *others, last = nodules.lesions
    crooked = replace(nodules, lesions=(*others, replace(last, mask="../x.nii.gz")))
    with pytest.raises(ManifestError, match="leaves the data root"):
        join_manifests([crooked, organs])


def test_the_card_is_the_union_of_what_there_is(pair: list[Manifest], tmp_path: Path) -> None:
    third = collection(
        tmp_path, "neck", structures={"spinal_cord": 1, "heart": 5},
        left_right_pairs=[], measurements={"subtlety": "1 to 5"},
    )  # fmt: skip
    card = join_manifests([*pair, third]).card
    assert set(card.structures) == {"heart", "left_lung", "right_lung", "spinal_cord"}
    assert len(set(card.structures.values())) == 4
    assert card.left_right_pairs == [("left_lung", "right_lung")]
    assert card.labels == {"malignant": MALIGNANT}
    assert card.measurements == {"subtlety": "1 to 5"}
    assert card.lesion_structure == "nodule"
    for word in ("CC BY 3.0", "CC0", "nodules", "organs"):
        assert word in card.licence
    assert card.body_region == "chest, thorax"


def test_a_scan_keeps_the_card_it_came_with(pair: list[Manifest], tmp_path: Path) -> None:
    third = collection(tmp_path, "neck", structures={"heart": 5})
    joined = join_manifests([*pair, third])
    for own in (*pair, third):
        for scan in own.scans:
            assert joined.card_of(joined.scan(scan.scan_id)) == own.card
    hearts = {joined.card_of(s).structures.get("heart") for s in joined.scans}
    assert hearts == {None, 1, 5}
    assert pair[0].card_of(pair[0].scans[0]) is pair[0].card


def test_drawn_is_what_was_annotated_and_is_an_organ(pair: list[Manifest]) -> None:
    joined = join_manifests(pair)
    drawn = {scan.scan_id: joined.drawn(scan) for scan in joined.scans}
    assert drawn == {
        "nodules-0": frozenset(), "nodules-1": frozenset(),
        "organs-0": {"heart"}, "organs-1": {"heart"},
    }  # fmt: skip
    without_map = replace(joined.scans[2], organ_mask=None)
    assert joined.drawn(without_map) == frozenset()
    both = replace(joined.scans[2], annotated=frozenset({"nodule", "left_lung", "spleen"}))
    assert joined.drawn(both) == {"left_lung"}


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ({"labels": {"grade": MALIGNANT}},
         {"labels": {"grade": Label(classes=["low", "high"], reference_standard="pathology")}},
         "label 'grade'"),
        ({"measurements": {"size": "mm"}}, {"measurements": {"size": "ml"}}, "measurement 'size'"),
    ],
)  # fmt: skip
def test_one_word_of_two_meanings_is_refused(tmp_path: Path, first, second, told) -> None:
    pair = [collection(tmp_path, "a", **first), collection(tmp_path, "b", **second)]
    with pytest.raises(ManifestError, match=rf"{told}.*in a and another in b"):
        join_manifests(pair)


def test_collections_of_different_lesions_are_refused(tmp_path: Path) -> None:
    pair = [
        collection(tmp_path, name, lesions=True, lesion_structure=what)
        for name, what in (("a", "nodule"), ("b", "metastasis"))
    ]
    with pytest.raises(ManifestError, match=r"'nodule' in a, 'metastasis' in b"):
        join_manifests(pair)


def test_names_that_two_collections_share_are_refused(tmp_path: Path) -> None:
    one = collection(tmp_path, "a", lesions=True)
    twin = replace(one, folder=tmp_path / "b")
    with pytest.raises(ManifestError, match="share the name"):
        join_manifests([one, twin])
    renamed = replace(twin, card=twin.card.model_copy(update={"name": "b"}))
    with pytest.raises(ManifestError, match=r"share the scan_id a-0, a-1"):
        join_manifests([one, renamed])
    scans = tuple(replace(scan, scan_id=f"b-{n}") for n, scan in enumerate(one.scans))
    lesions = tuple(replace(e, scan_id=f"b-{n}") for n, e in enumerate(one.lesions))
    with pytest.raises(ManifestError, match=r"share the lesion_id a-l0, a-l1"):
        join_manifests([one, replace(renamed, scans=scans, lesions=lesions)])


def test_a_patient_of_two_collections_is_one_patient(pair: list[Manifest]) -> None:
    nodules, organs = pair
    same = replace(organs, scans=tuple(replace(s, patient_id="nodules-p0") for s in organs.scans))
    joined = join_manifests([nodules, same])
    assert {scan.patient_id for scan in joined.scans} == {"nodules-p0", "nodules-p1"}


def test_exclusions_are_kept_with_their_reasons(pair: list[Manifest]) -> None:
    nodules, organs = pair
    gone = [Exclusion(id="nodules-l1", reason="blurred"), Exclusion(id="organs-0", reason="cut")]
    excluding = [
        replace(own, card=own.card.model_copy(update={"exclusions": [each]}))
        for own, each in zip((nodules, organs), gone, strict=True)
    ]
    joined = join_manifests(excluding)
    assert joined.card.exclusions == gone
    kept = joined.included()
    assert {s.scan_id for s in kept.scans} == {"nodules-0", "nodules-1", "organs-1"}
    assert {e.lesion_id for e in kept.lesions} == {"nodules-l0"}
    assert kept.card_of(kept.scan("organs-1")).name == "organs"


def test_blind_copies_keep_their_collections(pair: list[Manifest]) -> None:
    blind = join_manifests(pair).without_annotations()
    assert [blind.card_of(scan).name for scan in blind.scans] == ["nodules"] * 2 + ["organs"] * 2
    assert not any(blind.drawn(scan) for scan in blind.scans)


def test_an_exclusion_holds_in_its_own_collection_only(pair: list[Manifest]) -> None:
    """One's lesion may have the id of another's scan."""
    nodules, organs = pair
    scans = tuple(replace(s, scan_id=s.scan_id.replace("organs-", "nodules-l"))
                  for s in organs.scans)  # fmt: skip
    gone = [Exclusion(id="nodules-l1", reason="blurred")]
    excluding = replace(nodules, card=nodules.card.model_copy(update={"exclusions": gone}))
    kept = join_manifests([excluding, replace(organs, scans=scans)]).included()
    assert {s.scan_id for s in kept.scans if s.collection == "organs"} == {
        "nodules-l0", "nodules-l1",
    }  # fmt: skip
