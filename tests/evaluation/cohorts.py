"""Synthetic cohorts: patients with one to several lesions, and arms that score them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import expit

FOLDS = 5


def lesion_table(
    *, patients: int, most_lesions: int = 3, prevalence: float = 0.4, seed: int = 0
) -> pd.DataFrame:
    """Lesions with a diameter, a fold that is the patient's, a label, and a latent signal.

    Lesions of one patient share part of their signal and of their chance to be positive.
    """
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, most_lesions + 1, size=patients)
    owner = np.repeat(np.arange(patients), sizes)
    shared = generator.normal(size=patients)[owner]
    target = (shared + generator.normal(size=len(owner))) > np.quantile(shared, 1 - prevalence)
    return pd.DataFrame(
        {
            "lesion_id": [f"L{number:04d}" for number in range(len(owner))],
            "scan_id": [f"S{number:04d}" for number in owner],
            "patient_id": [f"P{number:04d}" for number in owner],
            "fold": owner % FOLDS,
            "diameter_mm": generator.uniform(4, 30, size=len(owner)),
            "target": target.astype(float),
            "signal": target + 0.5 * shared + generator.normal(size=len(owner)),
        }
    )


def predictions(
    lesions: pd.DataFrame, *, noise: Mapping[str, float], task: str = "malignancy", seed: int = 1
) -> pd.DataFrame:
    """Out-of-fold predictions of several arms: the signal blurred by each arm's own noise."""
    arms = []
    for number, (arm, spread) in enumerate(noise.items()):
        generator = np.random.default_rng([seed, number])
        blurred = lesions["signal"] + spread * generator.normal(size=len(lesions))
        arms.append(
            lesions[["patient_id", "scan_id", "lesion_id", "fold", "target"]].assign(
                arm=arm,
                cell=[f"{arm}-{fold}" for fold in lesions["fold"]],
                task=task,
                output="malignant",
                prediction=expit(blurred - 0.5),
                train_size=len(lesions) - lesions.groupby("fold")["fold"].transform("size"),
            )
        )
    return pd.concat(arms, ignore_index=True)
