"""Compare and look in MLflow.

Train two methods on the same folds and seeds, and read the runs back from MLflow.
"""

# %% A cohort of phantoms stands for yours.

from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import torch

import brainage
from brainage.cohorts.phantom import write_phantom_cohort

torch.set_num_threads(1)
table = write_phantom_cohort(Path("phantoms"), subjects=24, seed=0)

# %% Compare. Every run goes to MLflow: a local database here, a server with `http://host:port`.

tracker = "sqlite:///mlflow.db"
summary = brainage.compare(
    table,
    "comparison",
    methods=("bp", "lfnn_l"),
    config="phantom",
    settings={"training.epochs": 8},
    tracking_uri=tracker,
)
print(summary[["method", "mae_years"]].round(1).to_string(index=False))

# %% In the browser: `brainage mlflow --tracking-uri sqlite:///mlflow.db`, experiment `brainage`,
# page *Charts*. In Python the same numbers come as a table.

mlflow.set_tracking_uri(tracker)
runs = mlflow.search_runs(experiment_names=["brainage"], filter_string="tags.fold = '0'")
print(runs[["tags.method", "metrics.test_mae_years"]].round(1).to_string(index=False))

# %% The learning curves, epoch by epoch. 24 phantoms and 8 epochs are too few for either method to
# learn much: this shows how to look, not which method is better.

client = mlflow.MlflowClient()
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for run_id, method in zip(runs["run_id"], runs["tags.method"], strict=True):
    history = client.get_metric_history(run_id, "val_mae_years")
    axes.plot([item.step for item in history], [item.value for item in history], label=method)
axes.set(xlabel="epoch", ylabel="validation MAE, years", title="24 phantoms, one seed")
axes.legend(frameon=False)
figure.savefig("compare_in_mlflow.png", dpi=120)
