"""Healthy people who exist in a table only, with volumes of their brains."""

import numpy as np
import pandas as pd


def people(count: int, seed: int = 0) -> pd.DataFrame:
    """Fluid grows with age and with its spread; men have 20 ml more of it."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 80, count)
    men = rng.random(count) < 0.5
    fluid = 150 + 2 * age + 20 * men + rng.normal(0, 5 + 0.3 * age)
    return pd.DataFrame(
        {
            "subject_id": [f"p{n}" for n in range(count)],
            "age_years": age,
            "sex": np.where(men, "M", "F"),
            "grey_ml": 650 + rng.normal(0, 15, count),
            "white_ml": 450 + rng.normal(0, 10, count),
            "fluid_ml": fluid,
            "ventricles_ml": 0.1 * fluid * np.exp(rng.normal(0, 0.3, count)),
        }
    )
