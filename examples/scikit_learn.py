"""In a scikit-learn pipeline.

`BrainAgeRegressor` is an estimator: it works with pipelines, cross-validation and searches.
"""

# %% A cohort is a table: paths of scans, ages, and the subject of each scan.

from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import torch
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import brainage
from brainage.cohorts.phantom import write_phantom_cohort

torch.set_num_threads(1)
table = write_phantom_cohort(Path("phantoms"), subjects=30, seed=0)
cohort = brainage.read_cohort(table).cohort.table
ages, subjects = cohort["age_years"].to_numpy(), cohort["subject_id"]

# %% The pipeline takes the column of paths and trains on it. Cross-validate with folds by subject:
# every scan is predicted by a model that never saw its subject.

regressor = brainage.BrainAgeRegressor(
    config="phantom", method="lfnn_l", blocks=3, settings={"training.epochs": 8}
)
pipeline = make_pipeline(FunctionTransformer(lambda table: table["path"]), regressor)
predicted = cross_val_predict(
    pipeline,
    cohort,
    ages,
    groups=subjects,
    cv=GroupKFold(3),
    params={"brainageregressor__groups": subjects},
)
print(f"out of fold: {mean_absolute_error(ages, predicted):.1f} years")
print(f"constant:    {abs(ages - median(ages)).mean():.1f} years")

# %% Age bias and intervals have estimators of their own, fitted on out-of-fold predictions.

corrector = brainage.AgeBiasCorrector().fit(predicted, ages)
print(f"slope of prediction on age: {corrector.slope_:.2f} (1 would be no bias)")
interval = brainage.ConformalInterval(kind="absolute").fit(predicted, ages)
low, high = interval.predict(predicted, level=0.8).T
print(f"80 % interval of the first scan: {low[0]:.0f} to {high[0]:.0f} years, age {ages[0]:.0f}")

# %% The picture: age, prediction and interval of every scan. After 8 epochs on 20 phantoms a
# network is hardly better than the constant; slope and intervals say so.

figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
axes.errorbar(ages, predicted, yerr=[predicted - low, high - predicted], fmt="o", alpha=0.6)
axes.axline((50, 50), slope=1, color="gray", linewidth=1)
axes.set(xlabel="age, years", ylabel="predicted age, years", title="30 phantoms, out of fold")
figure.savefig("scikit_learn.png", dpi=120)
