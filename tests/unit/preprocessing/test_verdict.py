"""Verdicts from measures, and limits from a reference cohort."""

import numpy as np
import pytest

from brainage.config import PreprocessingConfig
from brainage.preprocessing import quality
from brainage.preprocessing.quality import derive_limits, judge, load_limits

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


@pytest.mark.parametrize("name", quality.DECISIVE)
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
        quality.MEANING["white_over_grey"][1],
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
        assert set(limits) <= set(quality.MEANING)


def test_a_brain_cut_at_the_border_is_measured() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 5:15] = True
    assert quality._mask_at_border(mask) == 0
    assert quality._mask_at_border(mask[:, :, 8:]) == 1


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
