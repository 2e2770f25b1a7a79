"""Seconds to target over whole cross-validations: folds are pooled before anything is compared.

The validation scans of one fold are few, so that the best of several noisy errors is a target made
of luck. A round is one cross-validation from one seed: each candidate's validation error after an
epoch is the mean over the folds, and so is the time up to there.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainage.cohorts.splits import Split
from brainage.evaluation.baselines import baseline_predictions
from brainage.evaluation.comparison import REFERENCE
from brainage.evaluation.metrics import paired_difference
from brainage.plotting.canvas import BLUE, GREY, ORANGE, build_figure, save_figure
from brainage.training.run import PreparedCohort
from pipelines.speed.summary import seconds_to

Rounds = dict[tuple[str, int], dict[str, pd.DataFrame]]
"""By case and round, then by candidate: `seconds` and `val_score` after each epoch."""


def pool_rounds(curves: pd.DataFrame, folds: int) -> Rounds:
    """Pool the folds of each round; rounds that lack a fold of a candidate are left out."""
    rounds = {}
    numbered = curves.assign(round=curves["repeat"] // folds)
    for _, part in numbered.groupby(["case", "round"], sort=False):
        own = part.groupby("name", sort=False)
        if (own["repeat"].nunique() == folds).all():
            key = part["case"].iloc[0], int(part["round"].iloc[0])
            rounds[key] = {str(name): pool_folds(run) for name, run in own}
    return rounds


def pool_folds(curves: pd.DataFrame) -> pd.DataFrame:
    """Average seconds and validation error after each epoch over the folds (`repeat`).

    A fold that ended early keeps its last error and its time: it has nothing more to do.
    """
    epochs = range(1, curves["epoch"].max() + 1)
    folds = [
        fold.set_index("epoch")[["seconds", "val_score"]].reindex(epochs, method="ffill")
        for _, fold in curves.groupby("repeat")
    ]
    return pd.DataFrame(np.mean(folds, axis=0), columns=["seconds", "val_score"])


def tabulate_rounds(runs: pd.DataFrame, rounds: Rounds, folds: int) -> pd.DataFrame:
    """Tabulate the rounds: one row a round and candidate.

    Returns
    -------
    pandas.DataFrame
        case, round, name, method, schedule; target (lowest final error among backpropagation's
        candidates, pooled); seconds_to_target (NaN: never); ratio (to backpropagation's fastest
        candidate); seconds_in_all, final_val_score, test_mae_years (means over the folds).
    """
    rows: list[dict[str, Any]] = []
    for (case, number), curves in rounds.items():
        own = runs[(runs["case"] == case) & (runs["repeat"] // folds == number)]
        facts = own.groupby("name").agg({"method": "first", "schedule": "first"})
        errors = own.groupby("name")["test_mae_years"].agg(lambda values: values.to_numpy().mean())
        bp = [name for name in curves if facts.loc[name, "method"] == REFERENCE]
        target = min((curves[name]["val_score"].iloc[-1] for name in bp), default=math.nan)
        reached = {
            name: seconds_to(curve.itertuples(index=False, name=None), target)
            for name, curve in curves.items()
        }
        best = np.nanmin([reached[name] for name in bp]) if bp else math.nan
        for name, curve in curves.items():
            row = {"case": case, "round": number, "name": name, **facts.loc[name]}
            row |= {"target": target, "seconds_to_target": reached[name]}
            row |= {"ratio": reached[name] / best, "seconds_in_all": curve["seconds"].iloc[-1]}
            row |= {"final_val_score": curve["val_score"].iloc[-1], "test_mae_years": errors[name]}
            rows.append(row)
    return pd.DataFrame(rows)


def tabulate_baselines(
    prepared: PreparedCohort, splits: Sequence[Split], folds: int
) -> pd.DataFrame:
    """Measure the constant predictor and the linear baseline on the rounds' scans.

    Returns
    -------
    pandas.DataFrame
        round, name, val_mae_years, test_mae_years (means over the folds of a whole round).
    """
    people = prepared.cohort.table["subject_id"].to_numpy()
    rows = []
    for repeat, split in enumerate(splits[: len(splits) // folds * folds]):
        parts = {"val": split.validation, "test": split.test}
        predicted = {
            part: baseline_predictions(
                prepared.arrays[split.train],
                prepared.ages[split.train],
                prepared.arrays[indices],
                train_subject_ids=list(people[split.train]),
            )
            for part, indices in parts.items()
        }
        for name in predicted["test"]:
            errors = {
                f"{part}_mae_years": np.abs(predicted[part][name] - prepared.ages[indices]).mean()
                for part, indices in parts.items()
            }
            rows.append({"round": repeat // folds, "name": name} | errors)
    table = pd.DataFrame(rows, columns=["round", "name", "val_mae_years", "test_mae_years"])
    return table.groupby(["round", "name"], as_index=False).mean()


def compare_ends(runs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Compare final errors with those of the best backpropagation, repeat by repeat.

    The best is the one with the lowest mean final validation error over all repeats of the case.

    Returns
    -------
    pandas.DataFrame
        case, name, baseline, repeats; for `final_val_score` and `test_mae_years` the mean paired
        difference with its 95 % bootstrap interval over repeats in ``*_low``, ``*_high``; NaN for
        the interval of a single repeat, and for all three where no repeat of both is there.
    """
    rows = []
    for case, part in runs[runs["seconds_in_all"].notna()].groupby("case", sort=False):
        finals = part[part["method"] == REFERENCE].groupby("name")["final_val_score"].mean()
        if finals.empty:
            continue
        best = str(finals.idxmin())
        base = part[part["name"] == best]
        for name, own in part[part["name"] != best].groupby("name", sort=False):
            row = {"case": case, "name": name, "baseline": best, "repeats": len(own)}
            pairs = own.merge(base, on="repeat", suffixes=("", "_base"))
            for measure in ("final_val_score", "test_mae_years"):
                both = pairs[[measure, f"{measure}_base"]].dropna().to_numpy().T
                found = paired_difference(both[0], both[1], seed=seed) if both.size else {}
                for end, key in (("", "mean"), ("_low", "ci_low"), ("_high", "ci_high")):
                    value = found.get(key)
                    row[f"{measure}{end}"] = math.nan if value is None else value
            rows.append(row)
    return pd.DataFrame(rows)


def rounds_to_markdown(rounds: pd.DataFrame, ends: pd.DataFrame, baselines: pd.DataFrame) -> str:
    """Write the tables as people read them; empty where there is no whole round."""
    if rounds.empty:
        return ""
    shown = rounds.drop(columns=["method", "schedule"])
    return "\n".join(
        [
            "\n## Whole cross-validations: errors pooled over the folds of a round",
            _table(shown),
            "\nFinal errors minus those of the best backpropagation, mean and 95 % interval:",
            _table(ends),
            "\nOn the same scans:",
            _table(baselines),
        ]
    )


def draw_rounds(table: pd.DataFrame, rounds: Rounds, path: Path, title: str) -> None:
    """Draw pooled validation error over training time, a panel a round; the line is the target."""
    if not rounds:
        return
    methods = table.set_index("name")["method"].to_dict()
    caption = "validation error over seconds of training, means over folds; line: the target"
    size = (4.5 * len(rounds), 4.2)
    figure, panels = build_figure((1, len(rounds)), size, title, caption, synthetic=False)
    for panel, ((case, number), curves) in zip(panels, rounds.items(), strict=True):
        for name, curve in curves.items():
            color = BLUE if methods[name] == REFERENCE else ORANGE
            panel.plot(curve["seconds"], curve["val_score"], color=color, alpha=0.8)
            panel.annotate(name, tuple(curve.iloc[-1]), fontsize=7)
        own = table[(table["case"] == case) & (table["round"] == number)]
        target = own["target"].iloc[0]
        panel.axhline(target, color=GREY, linewidth=0.8)
        panel.set_ylim(top=target * 2)
        panel.set_title(f"{case}, round {number}", fontsize=9)
        panel.set_xlabel("seconds of training")
    panels[0].set_ylabel("validation error")
    save_figure(figure, path)


def _table(frame: pd.DataFrame) -> str:
    """Write a table as Markdown, figures to three digits."""
    lines = [list(frame.columns), ["---"] * len(frame.columns)]
    for row in frame.itertuples(index=False):
        lines.append([f"{value:.3g}" if isinstance(value, float) else str(value) for value in row])
    return "".join(f"\n| {' | '.join(cells)} |" for cells in lines) + "\n"
