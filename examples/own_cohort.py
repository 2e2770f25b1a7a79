"""A cohort of your own.

Train on a table of scans with ages, test on held-out people, and predict.
"""

# %% A table with `id`, `age` and `path`, or a BIDS folder. Here: 40 phantoms.

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import brainage
from brainage.cohorts.phantom import write_phantom_cohort

torch.set_num_threads(1)
table = write_phantom_cohort(Path("phantoms"), subjects=40, seed=0)
reading = brainage.read_cohort(table)
print(f"{len(reading.cohort.table)} scans, {len(reading.rejected)} bad rows")

# %% Train. The split is by subject; `settings` changes what the preset says. Settings of the
# command line's `--set` have the same names.

run = brainage.train(
    table, "models/mine", config="phantom", settings={"training.epochs": 12, "seed": 1}
)
metrics = run.metrics
print(f"test error {metrics['mae_years']:.1f} years, n {metrics['n']}")
for name, baseline in metrics["baselines"].items():
    print(f"  {name}: {baseline['mae_years']:.1f}")

# %% The output folder is a model: `brainage predict --model models/mine` takes it, and so does
# Python.

model = brainage.load_model("models/mine")
predictions = model.predict(reading.cohort)
print(predictions[["scan_id", "predicted_age_years", "verdict"]].head(3).to_string(index=False))

# %% Predicted and true age of the test people. Too few people and epochs to say more than that it
# runs.

test = run.predictions
figure, axes = plt.subplots(figsize=(4, 4), layout="constrained")
axes.scatter(test["age_years"], test["predicted_age_years"])
axes.axline((50, 50), slope=1, color="gray", linewidth=1)
axes.set(xlabel="age, years", ylabel="predicted age, years", title="test phantoms", aspect=1)
figure.savefig("own_cohort.png", dpi=120)
