"""What an encoder's features tell without training it: neighbours, and a linear model."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from medmtl.errors import EvaluationError
from medmtl.evaluation.metrics import roc_auc

NEIGHBOURS = 15
PARTS = 5


def probe_scores(
    features: Sequence[Float[np.ndarray, "lesions _"]],
    classes: Int[np.ndarray, " lesions"],
    patients: list[str],
) -> dict[str, float]:
    """AUC of simple readers of frozen features, each lesion scored by others' patients.

    Args:
        features: Of each level of an encoder, fine to coarse, a row a lesion.
        classes: 0 or 1.
        patients: Whose each lesion is; none is in the data that its own lesions are scored by.

    Raises:
        EvaluationError: See `require_enough`.

    Returns:
        `knn_auc`: of the classes of the nearest neighbours by cosine, weighted by closeness;
        `linear_auc`: of logistic regression on standardised features. Both of the coarsest level;
        `linear_auc_level_<n>` of each finer one, the finest first: where transfer ends.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    require_enough(classes, patients)
    neighbours = KNeighborsClassifier(
        min(NEIGHBOURS, len(classes) // 2), metric="cosine", weights="distance"
    )
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    *_, coarsest = features
    asked = {"knn_auc": (neighbours, coarsest), "linear_auc": (linear, coarsest)}
    asked |= {f"linear_auc_level_{n}": (linear, each) for n, each in enumerate(features[:-1], 1)}
    split = StratifiedGroupKFold(PARTS, shuffle=True, random_state=0)
    scores = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for name, (reader, given) in asked.items():
            predicted = cross_val_predict(
                reader, given, classes, groups=patients, cv=split, method="predict_proba"
            )
            scores[name] = roc_auc(classes, predicted[:, 1])
    return scores


def require_enough(classes: Int[np.ndarray, " lesions"], patients: list[str]) -> None:
    """Refuses lesions of too few patients to score each by others.

    Raises:
        EvaluationError: Fewer patients of a class than parts.
    """
    groups = np.asarray(patients)
    fewest = min(len(set(groups[classes == each])) for each in (0, 1))
    if fewest < PARTS:
        raise EvaluationError(
            f"the probe needs {PARTS} patients of each class, and its manifest has {fewest} of "
            "one; take another manifest, or leave the probe out"
        )
