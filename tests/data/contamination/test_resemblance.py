import numpy as np

from medmtl.data.contamination.resemblance import standing_out


def test_where_few_pairs_resemble_all_are_worth_a_look() -> None:
    pairs = [(0, 1, 2.2), (2, 3, 9.0)]
    assert standing_out(pairs, scans=4) == pairs


def test_where_all_scans_resemble_only_outliers_stand_out() -> None:
    scores = np.random.default_rng(0).uniform(2.1, 6.5, 300)
    pairs = [(i, i + 100, float(score)) for i, score in enumerate(scores)]
    copies = [(400, 401, 24.0), (402, 403, 31.0)]
    assert standing_out([*pairs, *copies], scans=72) == copies
