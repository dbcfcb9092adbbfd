"""DeLong's covariance of AUCs measured on the same independent cases."""

import numpy as np
from jaxtyping import Float, Real
from scipy.stats import rankdata


def auc_covariance(
    target: Real[np.ndarray, " cases"], scores: Real[np.ndarray, "models cases"]
) -> tuple[Float[np.ndarray, " models"], Float[np.ndarray, "models models"]]:
    """Measures the AUCs of several models and how they vary together.

    Args:
        target: 1 or 0; each class present. With one case of a class, its part of the
            variance is unknown and the covariance is NaN.
        scores: A row a model.

    Source:
        DeLong et al. 1988, by the midranks of Sun and Xu 2014.
    """
    positive = target == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    overall = rankdata(scores, axis=1)
    # Of each positive, the share of negatives below it; of each negative, of positives above.
    above = (overall[:, positive] - rankdata(scores[:, positive], axis=1)) / negatives
    below = 1 - (overall[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / positives
    unknown = np.full((len(scores), len(scores)), np.nan)
    covariance = (
        np.atleast_2d(np.cov(above)) / positives + np.atleast_2d(np.cov(below)) / negatives
        if min(positives, negatives) > 1
        else unknown
    )
    return above.mean(axis=1), covariance
