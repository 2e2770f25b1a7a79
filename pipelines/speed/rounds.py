"""Seconds to target over whole cross-validations: folds are pooled before anything is compared.

The validation scans of one fold are few, so that the best of several noisy errors is a target made
of luck. A round is one cross-validation from one seed: each entrant's validation error after an
epoch is the mean over the folds, and so is the time up to there.
"""

import math
from collections.abc import Iterable, Sequence
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
from brainage.types import DoubleArray
from pipelines.speed.entrants import Epoch
from pipelines.speed.summary import Result, seconds_to


def pool_folds(results: Iterable[Result]) -> list[Epoch]:
    """Mean seconds and mean validation error after each epoch, over the folds.

    A fold that ended early keeps its last error and its time: it has nothing more to do.
    """
    laps = [result.lap.epochs for result in results]
    length = max(len(epochs) for epochs in laps)
    padded = [[*epochs, *[epochs[-1]] * (length - len(epochs))] for epochs in laps]
    return [
        Epoch(
            float(np.mean([epoch.train_seconds_cumulative for epoch in folds])),
            float(np.mean([epoch.val_score for epoch in folds])),
        )
        for folds in zip(*padded, strict=True)
    ]


def tabulate_rounds(results: Sequence[Result], folds: int) -> pd.DataFrame:
    """One row a round and entrant; rounds that lack a fold of an entrant are left out.

    Returns
    -------
    pandas.DataFrame
        case, round, name, method, schedule; target (lowest final error among backpropagation's
        entrants, pooled); seconds_to_target (NaN: never); ratio (to backpropagation's fastest
        entrant); seconds_in_all, final_val_score, test_mae_years (means over the folds).
    """
    rows: list[dict[str, Any]] = []
    for (case, number), groups in _complete_rounds(results, folds).items():
        curves = {name: pool_folds(group) for name, group in groups.items()}
        rivals = [n for n, g in groups.items() if g[0].entrant.spec.method == REFERENCE]
        target = min((curves[name][-1].val_score for name in rivals), default=math.nan)
        reached = {name: seconds_to(curve, target) for name, curve in curves.items()}
        best = np.nanmin([reached[name] for name in rivals]) if rivals else math.nan
        for name, group in groups.items():
            spec, last = group[0].entrant.spec, curves[name][-1]
            rows.append(
                {
                    "case": case,
                    "round": number,
                    "name": name,
                    "method": spec.method,
                    "schedule": spec.schedule,
                    "target": target,
                    "seconds_to_target": reached[name],
                    "ratio": reached[name] / best,
                    "seconds_in_all": last.train_seconds_cumulative,
                    "final_val_score": last.val_score,
                    "test_mae_years": float(np.mean([r.lap.test_mae_years for r in group])),
                }
            )
    return pd.DataFrame(rows)


def tabulate_baselines(
    prepared: PreparedCohort, splits: Sequence[Split], folds: int
) -> pd.DataFrame:
    """What the constant predictor and the linear baseline reach on the rounds' scans.

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


def compare_ends(results: Sequence[Result], seed: int = 0) -> pd.DataFrame:
    """Final errors of each entrant minus those of the best backpropagation, lap by lap.

    The best is the one with the lowest mean final validation error over all laps of the case.

    Returns
    -------
    pandas.DataFrame
        case, name, against, laps; for `final_val_score` and `test_mae_years` the mean paired
        difference with its 95 % bootstrap interval over laps in ``*_low``, ``*_high``; NaN for
        the interval of a single lap, and for all three where no lap of both is there.
    """
    table = pd.DataFrame(
        {
            "case": result.case,
            "name": result.entrant.spec.name,
            "method": result.entrant.spec.method,
            "repeat": result.repeat,
            "final_val_score": result.lap.epochs[-1].val_score,
            "test_mae_years": result.lap.test_mae_years,
        }
        for result in results
        if result.lap.epochs
    )
    rows = []
    for case, laps in table.groupby("case", sort=False):
        rivals = laps[laps["method"] == REFERENCE]
        if rivals.empty:
            continue
        best = str(rivals.groupby("name")["final_val_score"].mean().idxmin())
        base = laps[laps["name"] == best].set_index("repeat")
        for name, own in laps[laps["name"] != best].groupby("name", sort=False):
            row: dict[str, Any] = {"case": case, "name": name, "against": best, "laps": len(own)}
            for measure in ("final_val_score", "test_mae_years"):
                pairs = pd.concat([own.set_index("repeat")[measure], base[measure]], axis=1)
                row |= _difference(measure, pairs.dropna().to_numpy().T, seed)
            rows.append(row)
    return pd.DataFrame(rows)


def rounds_to_markdown(rounds: pd.DataFrame, ends: pd.DataFrame, baselines: pd.DataFrame) -> str:
    """The tables as people read them; empty where there is no whole round."""
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


def draw_rounds(results: Sequence[Result], folds: int, path: Path, title: str) -> None:
    """Pooled validation error over training time, a panel a round; the line is the target."""
    rounds = tabulate_rounds(results, folds)
    if rounds.empty:
        return
    groups = _complete_rounds(results, folds)
    caption = "validation error over seconds of training, means over folds; line: the target"
    size = (4.5 * len(groups), 4.2)
    figure, panels = build_figure((1, len(groups)), size, title, caption, synthetic=False)
    for panel, ((case, number), entrants) in zip(panels, groups.items(), strict=True):
        for name, group in entrants.items():
            curve = pool_folds(group)
            seconds = [epoch.train_seconds_cumulative for epoch in curve]
            errors = [epoch.val_score for epoch in curve]
            is_bp = group[0].entrant.spec.method == REFERENCE
            panel.plot(seconds, errors, color=BLUE if is_bp else ORANGE, alpha=0.8)
            panel.annotate(name, (seconds[-1], errors[-1]), fontsize=7)
        own = rounds[(rounds["case"] == case) & (rounds["round"] == number)]
        panel.axhline(own["target"].iloc[0], color=GREY, linewidth=0.8)
        panel.set_ylim(top=own["target"].iloc[0] * 2)
        panel.set_title(f"{case}, round {number}", fontsize=9)
        panel.set_xlabel("seconds of training")
    panels[0].set_ylabel("validation error")
    save_figure(figure, path)


def _complete_rounds(
    results: Sequence[Result], folds: int
) -> dict[tuple[str, int], dict[str, list[Result]]]:
    """By case and round, then by entrant: its laps, one a fold."""
    groups: dict[tuple[str, int], dict[str, list[Result]]] = {}
    for result in results:
        if result.lap.epochs:
            group = groups.setdefault((result.case, result.repeat // folds), {})
            group.setdefault(result.entrant.spec.name, []).append(result)
    return {
        key: group
        for key, group in groups.items()
        if all(len(laps) == folds for laps in group.values())
    }


def _table(frame: pd.DataFrame) -> str:
    """Markdown, figures to three digits."""
    lines = [list(frame.columns), ["---"] * len(frame.columns)]
    for row in frame.itertuples(index=False):
        lines.append([f"{value:.3g}" if isinstance(value, float) else str(value) for value in row])
    return "".join(f"\n| {' | '.join(cells)} |" for cells in lines) + "\n"


def _difference(measure: str, pairs: DoubleArray, seed: int) -> dict[str, float]:
    """Columns of `compare_ends` for one measure, from errors (2, laps): own and the rival's."""
    own, rival = pairs
    found = paired_difference(own, rival, seed=seed) if len(own) else {}
    values = (found.get("mean"), found.get("ci_low"), found.get("ci_high"))
    names = (measure, f"{measure}_low", f"{measure}_high")
    return {n: math.nan if v is None else v for n, v in zip(names, values, strict=True)}
