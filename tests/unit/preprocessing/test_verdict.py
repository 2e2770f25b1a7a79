"""Verdicts from measures, and limits from a reference cohort."""

import numpy as np
import pytest

from brainage.config import PreprocessingConfig
from brainage.preprocessing import verdict
from brainage.preprocessing.verdict import (
    FIXED,
    derive_limits,
    join_measures,
    judge,
    judge_by,
    load_limits,
)

SETTINGS = PreprocessingConfig()
GOOD = {
    name: limit["median"] for name, limit in load_limits()["raw head"].items() if "median" in limit
}


def reference(scans: int = 200) -> list[dict[str, float]]:
    rng = np.random.default_rng(0)
    return [
        {"noise": float(rng.lognormal(0, 0.5)), "mask_overlap": float(rng.normal(0.95, 0.01))}
        for _ in range(scans)
    ]


def test_the_median_scan_is_ok() -> None:
    assert judge(GOOD, "raw head", SETTINGS) == ("ok", ())


def test_a_broken_limit_flags_and_says_what_came_and_what_was_expected() -> None:
    high = load_limits()["raw head"]["noise"]["high"]
    verdict, reasons = judge({**GOOD, "noise": 1.5 * high}, "raw head", SETTINGS)
    assert verdict == "flagged"
    assert reasons == (f"noise (noise {1.5 * high:.3g}, expected at most {high:.3g})",)


def test_noise_alone_never_fails_a_scan() -> None:
    assert judge({**GOOD, "noise": 1e6}, "raw head", SETTINGS)[0] == "flagged"


@pytest.mark.parametrize("name", verdict.DECISIVE)
def test_a_wrong_place_or_contrast_far_out_fails(name: str) -> None:
    limit = load_limits()["raw head"][name]
    edge = limit.get("fails_below", limit.get("fails_above", 0.0))
    beyond = edge + 0.01 * (edge - limit["median"])
    lenient = SETTINGS.model_copy(update={"min_template_correlation": -1.0})
    assert judge({**GOOD, name: beyond}, "raw head", lenient)[0] == "failed"
    within = edge - 0.01 * (edge - limit["median"])
    assert judge({**GOOD, name: within}, "raw head", lenient)[0] == "flagged"


def test_what_fails_a_scan_is_said_before_what_flags_it() -> None:
    limits = load_limits()["raw head"]
    poor = {"slice_mm": 5.0, "white_over_grey": limits["white_over_grey"]["fails_below"] - 1}
    reasons = judge({"slice_mm": 5.0, **GOOD, **poor}, "raw head", SETTINGS)[1]
    assert [reason.partition(" (")[0] for reason in reasons] == [
        verdict.MEANING["white_over_grey"][1],
        "thick slices",
    ]


def test_correlation_below_the_settings_smallest_fails() -> None:
    measures = {**GOOD, "template_correlation": 0.45}
    assert judge(measures, "raw head", SETTINGS)[0] == "ok"
    strict = SETTINGS.model_copy(update={"min_template_correlation": 0.5})
    verdict, reasons = judge(measures, "raw head", strict)
    assert (verdict, reasons[0]) == ("failed", "template_correlation 0.45 is below 0.5")


def test_a_correlation_that_is_not_a_number_fails() -> None:
    assert judge({**GOOD, "template_correlation": np.nan}, "raw head", SETTINGS)[0] == "failed"


def broken_share(scans: list[dict[str, float]], limits: dict[str, dict[str, float]]) -> float:
    broken = [
        scan["noise"] > limits["noise"]["high"]
        or scan["mask_overlap"] < limits["mask_overlap"]["low"]
        for scan in scans
    ]
    return float(np.mean(broken))


def test_limits_let_96_percent_of_the_reference_pass() -> None:
    scans = reference()
    assert broken_share(scans, derive_limits(scans)) == pytest.approx(0.04, abs=0.011)


def test_limits_of_a_small_reference_let_95_percent_of_new_scans_pass() -> None:
    pool = reference(6000)
    shares = [
        broken_share(pool[3000:], derive_limits(pool[start : start + 53]))
        for start in range(0, 1590, 53)
    ]
    assert np.mean(shares) < 0.05


def test_limits_are_on_the_bad_side_alone() -> None:
    limits = derive_limits(reference())
    assert set(limits["noise"]) == {"median", "high"}
    assert set(limits["mask_overlap"]) == {"median", "low", "fails_below"}


def test_a_measure_that_never_varies_allows_nothing_else() -> None:
    scans = [{**scan, "outside_view": 0.0} for scan in reference()]
    assert derive_limits(scans)["outside_view"] == {"median": 0.0, "high": 0.0}


def test_every_measure_with_a_limit_has_a_meaning() -> None:
    for limits in load_limits().values():
        assert set(limits) <= set(verdict.MEANING)


def test_a_measure_that_is_nearly_always_the_same_does_not_loosen_the_others() -> None:
    rng = np.random.default_rng(0)
    scans = [{"noise": float(v), "mask_at_border": 0.0} for v in rng.normal(0.06, 0.01, 60)]
    plain = derive_limits(scans)["noise"]["high"]
    scans[3]["mask_at_border"], scans[40]["mask_at_border"] = 0.001, 0.4
    limits = derive_limits(scans)
    assert limits["noise"]["high"] == plain
    assert limits["mask_at_border"]["high"] == 0.4


def test_a_value_on_its_limit_is_within_it() -> None:
    limits = load_limits()["raw head"]
    lenient = SETTINGS.model_copy(update={"min_template_correlation": -1.0})
    for name, side in (("noise", "high"), ("mask_overlap", "low")):
        assert judge({**GOOD, name: limits[name][side]}, "raw head", lenient) == ("ok", ())
    edge = {**GOOD, "mask_overlap": limits["mask_overlap"]["fails_below"]}
    assert judge(edge, "raw head", lenient)[0] == "flagged"


def test_the_factor_is_the_score_of_the_conformal_rank() -> None:
    noise = np.arange(1.0, 201.0)
    scores = []
    for index in range(200):
        rest = np.delete(noise, index)
        reach = np.percentile(rest - np.median(rest), 97.5)
        scores.append((noise[index] - np.median(rest)) / reach)
    factor = sorted(scores)[192]  # ⌈201 · 0.96⌉ = 193
    high = derive_limits([{"noise": float(value)} for value in noise])["noise"]["high"]
    assert high == pytest.approx(100.5 + factor * np.percentile(noise - 100.5, 97.5), rel=1e-9)


def test_a_measure_without_reach_is_limited_by_its_extreme_on_the_bad_side() -> None:
    scans = [{**scan, "sharpness": 0.5} for scan in reference(60)]
    scans[3]["sharpness"], scans[7]["sharpness"] = 0.2, 0.9
    assert derive_limits(scans)["sharpness"] == {"median": 0.5, "low": 0.2}


def test_contrast_agent_is_flagged_whatever_the_reference_says() -> None:
    for kind, name in (("raw head", "sinus_brightness"), ("mni brain", "bright_share")):
        medians = {
            n: limit["median"] for n, limit in load_limits()[kind].items() if "median" in limit
        }
        found, reasons = judge({**medians, name: 1.01 * FIXED[name]}, kind, SETTINGS)
        assert found == "flagged" and "contrast agent" in reasons[0]
        assert judge({**medians, name: 0.99 * FIXED[name]}, kind, SETTINGS)[0] == "ok"


def many(scans: int = 100, measures: int = 12) -> list[dict[str, float]]:
    """Scans whose measures are independent."""
    names = [name for name, (bad, _) in verdict.MEANING.items() if name not in FIXED][:measures]
    values = np.random.default_rng(1).normal(10.0, 1.0, (scans, measures))
    return [dict(zip(names, row.tolist(), strict=True)) for row in values]


def test_many_measures_that_are_each_at_their_limit_fail_together() -> None:
    limits = derive_limits(many())
    side = {name: "low" if "low" in limit else "high" for name, limit in limits.items()}
    at_limit = {name: limits[name][side[name]] for name in many()[0]}
    assert judge_by(limits, at_limit)[0] == "failed"
    assert "too much is unusual" in judge_by(limits, at_limit)[1][0]
    for name in at_limit:
        one = {n: limits[n]["median"] for n in at_limit} | {name: at_limit[name]}
        assert judge_by(limits, one) == ("ok", ())


def test_the_joint_score_is_the_length_of_the_distances_in_limits() -> None:
    limits = {"noise": {"median": 1.0, "high": 3.0}, "mask_overlap": {"median": 0.9, "low": 0.8}}
    assert join_measures(limits, {"noise": 4.0, "mask_overlap": 0.7}) == pytest.approx(2.5)
    assert join_measures(limits, {"noise": 0.0, "mask_overlap": 1.0}) == 0.0
    assert join_measures(limits, {"noise": 1e9}) == pytest.approx(2.0)


def test_what_part_of_a_head_is_seen_does_not_count_together() -> None:
    limits = {"outside_view": {"median": 0.0, "high": 0.1}}
    assert join_measures(limits, {"outside_view": 1.0}) == 0.0


@pytest.mark.parametrize("name", verdict.CONTRASTS)
def test_contrasts_of_no_t1_fail_however_wide_the_reference_is(name: str) -> None:
    for group in load_limits():
        limits = load_limits()[group]
        medians = {n: limit["median"] for n, limit in limits.items() if "median" in limit}
        assert judge_by(limits, {**medians, name: -0.01})[0] == "failed", group


def test_limits_are_the_formula_on_a_reference_that_can_be_worked_by_hand() -> None:
    scans = [{"noise": float(value), "mask_litres": 1.0 + value / 100} for value in range(1, 31)]
    limits = derive_limits(scans)
    noise = np.array([scan["noise"] for scan in scans])
    reach = np.percentile(noise - np.median(noise), 97.5)
    scores = []
    for index in range(30):
        rest = np.delete(noise, index)
        middle = np.median(rest)
        sides = [(noise[index] - middle) / np.percentile(rest - middle, 97.5)]
        # Volume is the same numbers by another scale, and bad on both sides.
        sides.append((middle - noise[index]) / np.percentile(middle - rest, 97.5))
        scores.append(max(sides))
    # Rank ceil(31 · 0.96) = 30 of 30.
    factor = max(scores)
    assert limits["noise"] == pytest.approx({"median": 15.5, "high": 15.5 + factor * reach})
    assert limits["mask_litres"] == pytest.approx(
        {"median": 1.155, "low": 1.155 - factor * reach / 100, "high": 1.155 + factor * reach / 100}
    )
    assert limits["slice_mm"] == {"high": FIXED["slice_mm"]}


def test_decisive_limits_lie_five_reaches_out_or_where_the_flag_is() -> None:
    scans = [{"scale_largest": float(value)} for value in range(1, 41)]
    limits = derive_limits(scans)["scale_largest"]
    reach = np.percentile(np.arange(1, 41) - 20.5, 97.5)
    assert limits["fails_above"] == pytest.approx(20.5 + 5 * reach)
    assert 20.5 + reach < limits["high"] < limits["fails_above"]
