"""`brainage finetune`: a finished model's read-out, trained further on a cohort of one's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.metrics import age_metrics, paired_difference
from brainage.evaluation.normative import make_reference
from brainage.model.bundle import Bundle
from brainage.training.finetuning import finetune_head, read_features
from brainage.types import DoubleArray, HalfArray, Json
from brainage.workflows.cohorts import CohortOptions
from brainage.workflows.console import say, warn
from brainage.workflows.own_site import read_site
from brainage.workflows.results import write_table
from brainage.workflows.seen import keep_people

MIN_PEOPLE, FOLDS = 30, 5


def finetune(
    model: Path, cohort_options: CohortOptions, output: Path, seed: int = 0
) -> pd.DataFrame:
    """Write the model anew with read-outs trained on the cohort, and tell what that gains.

    The gain is measured in five folds of people: each is predicted by networks whose read-outs
    were trained on the others, and by the untouched model, on the same scans. The model that is
    written has learned from all; its intervals come from the folds.

    Returns
    -------
    pandas.DataFrame
        One row a person: `scan_id`, `subject_id`, `age_years`, `fold`, `untouched_age_years`,
        `predicted_age_years`; also written as ``finetuned.csv``.

    Raises
    ------
    CohortError
        If fewer than 30 people are left that the model was not trained on.
    TrainingError
        If the output already holds a model.
    """
    site = read_site(model, cohort_options, output, MIN_PEOPLE, "people with an age")
    bundle, people, arrays = site.bundle, site.people, site.arrays
    ages = site.age_years
    say(f"{len(people)} people, {len(bundle.networks)} networks, {FOLDS} folds and all together.")
    networks = _Networks(bundle, arrays, ages)
    fold = np.random.default_rng(seed).permutation(len(people)) % FOLDS
    tuned, spread = np.empty(len(people)), np.empty(len(people))
    for number in range(FOLDS):
        out = np.flatnonzero(fold == number)
        found = networks.train(np.flatnonzero(fold != number), seed).predict(arrays[out])
        tuned[out], spread[out] = found.predicted_age_years, found.spread_years
    untouched = bundle.predict(arrays).predicted_age_years
    result = people[["scan_id", "subject_id", "age_years"]].assign(
        fold=fold, untouched_age_years=untouched, predicted_age_years=tuned
    )
    calibration = ConformalInterval(
        bundle.config.inference.interval, bundle.config.inference.min_band_scans
    ).fit(tuned, ages, spread, source=f"{len(people)} own people, out of fold")
    tuned_bundle = networks.train(np.arange(len(people)), seed)
    learned = keep_people(tuned_bundle, people, "train")
    before, after = np.abs(untouched - ages), np.abs(tuned - ages)
    # What the report sets a person beside; of groups and retests by new heads nothing is known.
    changes: Json = {
        "reference": make_reference(result, "out_of_fold").to_json(),
        "retests": None,
        "subgroups": [],
        "finetuned": dict(age_metrics(ages, tuned)),
    }
    site.write(output, learned, calibration, changes)
    write_table(result, output / "finetuned.csv")
    _tell(before, after)
    site.compare_constant(after)
    say(f"written to {output}")
    return result


class _Networks:
    """The networks of a bundle, with what their heads read of a cohort."""

    def __init__(self, bundle: Bundle, arrays: HalfArray, ages: DoubleArray) -> None:
        self.bundle, self.ages = bundle, ages
        self.features = [read_features(item.model, arrays) for item in bundle.networks]

    def train(self, rows: NDArray[np.intp], seed: int) -> Bundle:
        """Build the bundle with heads that were trained on these people, without an offset."""
        tuned = [
            replace(
                item,
                model=finetune_head(
                    item.model, item.target, features[:, rows], self.ages[rows], seed + number
                ),
            )
            for number, (item, features) in enumerate(
                zip(self.bundle.networks, self.features, strict=True)
            )
        ]
        facts = self.bundle.facts | {"calibration": None}
        if self.bundle.members:
            return replace(self.bundle, facts=facts, model=tuned[0].model, members=tuple(tuned))
        return replace(tuned[0], facts=facts)


def _tell(before: DoubleArray, after: DoubleArray) -> None:
    gain = paired_difference(before, after)
    say(
        f"Untouched, the model has an MAE of {before.mean():.2f} years on these people; with heads "
        f"trained on the others {after.mean():.2f}: gain {gain['mean']:+.2f} "
        f"(95 % CI {gain['ci_low']:+.2f} to {gain['ci_high']:+.2f})."
    )
    if gain["ci_low"] is None or gain["ci_low"] <= 0:
        warn("the gain may be chance: the untouched model is as good a choice.")
