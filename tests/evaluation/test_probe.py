"""Simple readers of frozen features: as scikit-learn's parts say, and no patient reads himself."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from medmtl.errors import EvaluationError
from medmtl.evaluation.probe import probe_scores

LESIONS_EACH = 4


def cohort(patients=40, width=12, seed=0):
    """Lesions whose class is their patient's, and features that tell a little of it."""
    generator = np.random.default_rng(seed)
    of_patient = generator.permutation(np.arange(patients) % 2)
    classes = np.repeat(of_patient, LESIONS_EACH)
    names = [f"P{n}" for n in np.repeat(np.arange(patients), LESIONS_EACH)]
    features = generator.normal(size=(len(classes), width)) * np.linspace(0.1, 30, width)
    features[:, 0] += 0.1 * classes
    return features, classes, names


def test_the_linear_model_agrees_with_one_put_together_by_hand():
    features, classes, patients = cohort()
    finer = features[:, ::2]

    scores = probe_scores([finer, features], classes, patients)

    split = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for name, given in (("linear_auc", features), ("linear_auc_level_1", finer)):
        told = np.zeros(len(classes))
        for train, test in split.split(given, classes, patients):
            mean, spread = given[train].mean(0), given[train].std(0)
            model = LogisticRegression(C=0.1, max_iter=1000)
            model.fit((given[train] - mean) / spread, classes[train])
            told[test] = model.predict_proba((given[test] - mean) / spread)[:, 1]
        assert scores[name] == pytest.approx(roc_auc_score(classes, told), abs=1e-6)
    assert set(scores) == {"knn_auc", "linear_auc", "linear_auc_level_1"}


def test_neighbours_are_those_of_the_nearest_direction():
    generator = np.random.default_rng(1)
    _, classes, patients = cohort()
    angle = np.where(classes, 0.3, 1.2) + generator.normal(0, 0.05, len(classes))
    length = generator.uniform(0.01, 100, len(classes))
    features = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)

    assert probe_scores([features], classes, patients)["knn_auc"] > 0.99


def test_what_only_tells_who_a_patient_is_tells_nothing():
    generator = np.random.default_rng(2)
    found = []
    for seed in range(5):
        _, classes, patients = cohort(seed=seed)
        who = np.unique(patients, return_inverse=True)[1]
        features = generator.normal(size=(who.max() + 1, 64))[who]
        scores = probe_scores([features], classes, patients)
        found.append([scores["knn_auc"], scores["linear_auc"]])
        leaked = LogisticRegression(max_iter=1000).fit(features, classes).score(features, classes)
        assert leaked == 1, "whoever sees a lesion of the patient knows the others"

    assert np.abs(np.mean(found, axis=0) - 0.5).max() < 0.15


def test_too_few_patients_of_a_class_are_refused():
    features, classes, patients = cohort(patients=8)
    with pytest.raises(EvaluationError, match=r"needs 5 patients of each class, .* has 4"):
        probe_scores([features], classes, patients)
