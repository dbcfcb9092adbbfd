import pytest

from medmtl.reporting.fold_table import learned_how

FULL, FROZEN = {"mode": "full"}, {"mode": "frozen"}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([{}, {}], []),  # a run of before there was a choice
        ([{"label_fraction": 1.0, "adaptation": FULL}], []),
        (
            [{"label_fraction": 0.1, "adaptation": FROZEN}] * 2,
            ["10 % of the labels", "frozen features"],
        ),
        ([{"adaptation": {**FULL, "tried": {"full": 0.7}}}],
         ["all layers (chosen by the inner split)"]),
        (
            [{"adaptation": {**mode, "tried": {}}} for mode in (FROZEN, FULL, FULL)],
            ["frozen features in 1 of 3, all layers in 2 of 3 (chosen by the inner split)"],
        ),
    ],
)  # fmt: skip
def test_how_an_arm_learned_is_said_where_it_departs(cells, said) -> None:
    assert learned_how(cells) == said
