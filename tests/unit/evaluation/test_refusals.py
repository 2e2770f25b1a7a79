"""What a refusal says: where, which rule, what came."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from brainage.errors import BrainageError
from brainage.evaluation import (
    age_bias,
    baselines,
    bounds,
    comparison,
    conformal,
    groups,
    longitudinal,
    metrics,
    normative,
    ood,
    out_of_fold,
    reliability,
)
from tests.refusals import check_refusal

NOBODY = pd.DataFrame({"scan_id": ["a"]})
PAIR = pd.DataFrame({"subject_id": ["a", "a"], "scan_id": ["x", "y"], "age_years": [1.0, 9.0]})


def line(slope: float, method: str) -> age_bias.AgeBiasCorrector:
    age = np.linspace(20, 80, 10)
    return age_bias.AgeBiasCorrector(method).fit(slope * age, age)


CALIBRATION = {
    "kind": "absolute",
    "edges_years": [50.0],
    "scores": [[1.0], [2.0]],
    "source": "validation",
    "offset_years": 0.0,
}
RUN = dict.fromkeys(comparison.RUN_COLUMNS, 1.0) | {"method": "lfnn_l", "schedule": "x"}
PREDICTED = dict.fromkeys(comparison.PREDICTION_COLUMNS, 1.0) | {"method": "bp"}


def people(count: int, cases: int) -> tuple[pd.DataFrame, np.ndarray]:
    age = np.linspace(50, 60, count)
    table = pd.DataFrame({"age_years": age, "gap": np.sin(age), "sex": "F", "site": ""})
    return table, np.arange(count) < cases


def brains(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 4, 4, 4)).astype(np.float16)


CASES: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "two shapes": (
        lambda: metrics.age_metrics(np.ones(3), np.ones((3, 1))),
        ("age_metrics", "(3,)", "(3, 1)"),
    ),
    "no scan": (
        lambda: metrics.constant_predictor([], 1),
        ("constant_predictor", "scan, got none"),
    ),
    "not finite": (
        lambda: metrics.paired_difference([1.0, np.nan, 2.0], [np.inf, 1.0, 2.0]),
        ("paired_difference", "2", "3"),
    ),
    "subjects": (
        lambda: metrics.age_metrics(np.ones(3), np.ones(3), subject_ids=["a"]),
        ("subject_ids", "3", "1"),
    ),
    "columns": (
        lambda: metrics.subgroup_metrics(pd.DataFrame({"x": [1], "y": [2]})),
        ("prediction table", "age_years", "predicted_age_years"),
    ),
    "no columns": (
        lambda: metrics.check_columns(pd.DataFrame(), ["a"], "here"),
        ("here", "lacks column a"),
    ),
    "few controls": (
        lambda: age_bias.AgeBiasCorrector().fit([30.0, 40.0], [30.0, 39.0]),
        ("age-bias correction", "10", "2", "9"),
    ),
    "no controls": (
        lambda: age_bias.AgeBiasCorrector().fit([], []),
        ("age-bias correction", "10", "0"),
    ),
    "one age": (
        lambda: age_bias.AgeBiasCorrector().fit(np.arange(10.0), np.full(10, 30.0)),
        ("age-bias correction", "10", "0"),
    ),
    "method": (
        lambda: line(1.0, "best").transform([30.0], [30.0]),
        ("--correct-bias", "'best'", "de_lange"),
    ),
    "flat line": (
        lambda: line(-0.0009, "cole").transform([30.0], [30.0]),
        ("age-bias correction", "slope -0.0009,"),
    ),
    "bias columns": (
        lambda: age_bias.correct_out_of_fold(NOBODY, "cole", np.ones(1, bool), [0]),
        ("age-bias correction", "age_years", "predicted_age_years", "scan_id"),
    ),
    "calibration": (
        lambda: conformal.ConformalInterval.from_json({"kind": "absolute"}),
        ("calibration", "is not readable"),
    ),
    "calibration of another kind": (
        lambda: conformal.ConformalInterval.from_json(CALIBRATION | {"kind": "relative"}),
        ("calibration", "is not readable"),
    ),
    "edges that fall": (
        lambda: conformal.ConformalInterval.from_json(
            CALIBRATION | {"edges_years": [50.0, 50.0], "scores": [[1.0], [2.0], [3.0]]}
        ),
        ("calibration", "is not readable"),
    ),
    "bands": (
        lambda: conformal.ConformalInterval.from_json(CALIBRATION | {"scores": [[1.0]]}),
        ("calibration", "than of scores"),
    ),
    "level": (
        lambda: bounds.conformal_quantile([1.0], 1.0),
        ("--level", "0", "1"),
    ),
    "level 0": (
        lambda: bounds.conformal_quantile([1.0], 0.0),
        ("--level", "0", "1"),
    ),
    "calibration arrays": (
        lambda: conformal.ConformalInterval().fit([1.0], [1.0, 2.0], [1.0]),
        ("calibration", "(1,)", "(2,)"),
    ),
    "nobody to calibrate": (
        lambda: conformal.ConformalInterval().fit([], []),
        ("calibration", "scan, got none"),
    ),
    "no intervals": (
        lambda: conformal.coverage_table(pd.DataFrame({"age_years": [1.0]})),
        (
            "intervals",
            "predicted_age_years",
            "interval_low_years",
            "interval_high_years",
            "age_years",
        ),
    ),
    "group columns": (
        lambda: groups.group_effect(NOBODY, "gap", np.ones(1, bool)),
        ("groups", "age_years", "scan_id"),
    ),
    "small group": (
        lambda: groups.group_effect(people(20, 2)[0], "gap", people(20, 2)[1]),
        ("groups", "2", "18", "3"),
    ),
    "few people for the terms": (
        lambda: groups.group_effect(
            people(6, 3)[0].assign(sex=list("FFMMFM"), site=list("abaabb")), "gap", people(6, 3)[1]
        ),
        ("groups", "6"),
    ),
    "equal measures": (
        lambda: groups.group_effect(people(20, 9)[0].assign(gap=1.5), "gap", people(20, 9)[1]),
        ("groups", "20"),
    ),
    "change columns": (
        lambda: longitudinal.yearly_change(NOBODY),
        ("longitudinal", "subject_id", "age_years", "brain_age_gap_years", "scan_id"),
    ),
    "one scan each": (
        lambda: reliability.intraclass_correlation([[1.0], [2.0]]),
        ("reliability", "(N, K)", "2", "(2, 1)"),
    ),
    "one subject": (
        lambda: reliability.intraclass_correlation([[1.0, 2.0]]),
        ("reliability", "(N, K)", "2", "(1, 2)"),
    ),
    "equal values": (
        lambda: reliability.intraclass_correlation([[1.0, 1.0], [1.0, 1.0]]),
        ("reliability", "not all equal"),
    ),
    "values that are none": (
        lambda: reliability.intraclass_correlation([[1.0, 2.0], [np.nan, 1.0]]),
        ("reliability", "not all equal"),
    ),
    "far apart": (
        lambda: reliability.repeated_scans(PAIR, ["age_years"], 2.5),
        ("reliability", "0", "2.5", "2", "--max-years"),
    ),
    "reliability columns": (
        lambda: reliability.repeated_scans(NOBODY, ["gap"]),
        ("reliability", "subject_id", "age_years", "scan_id"),
    ),
    "reference": (
        lambda: normative.reference_from_json({"source": "x"}),
        ("reference", "is not readable"),
    ),
    "reference cells": (
        lambda: normative.reference_from_json({"source": "x", "cells": [[20, 0]]}),
        ("reference", "people in cells"),
    ),
    "reference counts": (
        lambda: normative.reference_from_json({"source": "x", "cells": [[1, 0, -1], [2, 0, 1]]}),
        ("reference", "people than none"),
    ),
    "ood": (lambda: ood.ood_from_bytes(b"nothing"), ("ood.safetensors", "is not readable")),
    "ood people": (
        lambda: ood.fit_ood(brains(6), ["a", "b", "c"] * 2),
        ("out-of-distribution score", "4", "3"),
    ),
    "ood blank": (
        lambda: ood.fit_ood(np.ones((6, 4, 4, 4), np.float16), list("abcdef")),
        ("out-of-distribution score", "the training scans"),
    ),
    "baseline": (
        lambda: baselines.check_names(["linear", "forest", "net"]),
        ("--baselines", "gaussian_process"),
    ),
    "baseline ages": (
        lambda: baselines.fit_linear_baseline(brains(5), [1.0, 2.0]),
        ("linear baseline", "(5,)", "(2,)"),
    ),
    "baseline subjects": (
        lambda: baselines.fit_linear_baseline(brains(2), [1.0, 2.0], subject_ids=["a", "a"]),
        ("linear baseline", "2", "1"),
    ),
    "baseline blank": (
        lambda: baselines.fit_linear_baseline(np.ones((3, 4, 4, 4), np.float16), [1.0, 2.0, 3.0]),
        ("linear baseline", "the training scans"),
    ),
    "volumes": (
        lambda: baselines.baseline_predictions(
            brains(3), [1.0, 2.0, 3.0], brains(1), names=["volumes"]
        ),
        ("--baselines", "template's tissue maps"),
    ),
    "repeats": (
        lambda: out_of_fold.average_repeats(NOBODY),
        ("out of fold", "predicted_age_years", "spread_years", "scan_id"),
    ),
    "runs": (
        lambda: comparison.comparison_table([{"method": "bp"}]),
        ("comparison", "mae_years", "seconds_per_epoch", "seconds_to_target", "peak_memory_mb"),
    ),
    "summary of runs": (
        lambda: comparison.summarise_comparison(NOBODY, NOBODY),
        (
            "comparison runs",
            "mae_years",
            "seconds_per_epoch",
            "seconds_to_target",
            "peak_memory_mb",
            "scan_id",
        ),
    ),
    "summary of predictions": (
        lambda: comparison.summarise_comparison(pd.DataFrame([RUN]), NOBODY),
        ("comparison predictions", "subject_id", "age_years", "predicted_age_years", "scan_id"),
    ),
    "a method without predictions": (
        lambda: comparison.summarise_comparison(pd.DataFrame([RUN]), pd.DataFrame([PREDICTED])),
        ("comparison predictions", "'lfnn_l'", "'x'"),
    ),
    "two schedules": (
        lambda: comparison.summarise_comparison(
            pd.DataFrame([RUN, RUN | {"schedule": "y"}]), pd.DataFrame([PREDICTED])
        ),
        ("comparison predictions", "under several schedules"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_refusal_says(name: str) -> None:
    refused, (where, *facts) = CASES[name]
    with pytest.raises(BrainageError) as caught:
        refused()
    check_refusal(caught.value, where, *facts)


@pytest.mark.parametrize("name", ["mean", "components", "variances", "scales", "quantiles"])
def test_an_ood_score_of_arrays_that_do_not_fit_is_refused(name: str) -> None:
    from safetensors.numpy import load, save

    tensors = load(ood.fit_ood(brains(8), list("abcdefgh")).to_bytes())
    assert ood.ood_from_bytes(save(tensors)).grid.shape == (4, 4, 4)
    cut = save(tensors | {name: tensors[name][1:]})
    if name in ("components", "variances") and len(tensors["variances"]) == 1:
        cut = save(tensors | {name: np.repeat(tensors[name], 2, axis=0)})
    with pytest.raises(BrainageError, match=r"^ood.safetensors: .*arrays"):
        ood.ood_from_bytes(cut)
