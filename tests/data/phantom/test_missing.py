import pytest

from medmtl.data.phantom.missing import ALLOWED, check_missing, parse_missing, plan_missing
from medmtl.errors import ConfigError


def count(lacking: list[frozenset[str]], name: str) -> int:
    return sum(name in names for names in lacking)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.3, 12), (0.51, 20), (1.0, 40)])
def test_the_share_is_exact(share: float, expected: int) -> None:
    assert count(plan_missing({"liver": share}, patients=40, seed=1), "liver") == expected


def test_names_strike_independently_of_each_other() -> None:
    alone = plan_missing({"masks": 0.5}, patients=200, seed=5)
    together = plan_missing({"liver": 0.5, "masks": 0.5}, patients=200, seed=5)
    assert [names & {"masks"} for names in together] == alone
    both = sum({"masks", "liver"} <= names for names in together)
    assert 30 < both < 70  # 50 expected, standard deviation 3.5 without replacement


def test_other_seeds_strike_other_scans() -> None:
    plans = {tuple(plan_missing({"organs": 0.5}, patients=30, seed=seed)) for seed in range(5)}
    assert len(plans) == 5


def test_shares_are_read_as_given() -> None:
    assert parse_missing(["classes=0.3", "left_lung = 1"]) == {"classes": 0.3, "left_lung": 1.0}
    assert parse_missing([]) == {}


@pytest.mark.parametrize(
    "text",
    ["kidney=0.3", "liver", "liver=", "liver=a", "liver=1.2", "liver=-0.1", "liver=nan", "=1"],
)
def test_what_cannot_be_meant_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_missing([text])
    assert f"--missing {text}" in str(caught.value)
    assert all(name in str(caught.value) for name in ALLOWED)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_missing(["kidney=0.3", "liver=0.5", "liver=0.6"])
    assert "kidney" in str(caught.value) and "twice" in str(caught.value)


def test_shares_given_as_numbers_are_checked_too() -> None:
    check_missing({"heart": 1.0})
    with pytest.raises(ConfigError, match=r"got spleen=0\.5"):
        check_missing({"spleen": 0.5})
    with pytest.raises(ConfigError, match="got heart=2"):
        check_missing({"heart": 2.0})
