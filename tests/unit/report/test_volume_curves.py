"""A person's volumes on the curves of the model's cohort: where they lie, when they are shown."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from brainage.evaluation.volume_curves import LEVELS, STRUCTURES, Curve, VolumeCurves
from brainage.report import build_report, render_html
from brainage.report.findings import Findings, ModelIdentity
from brainage.report.page_pdf import render_pdf
from brainage.report.volume_curves import draw_volumes

# Medians of 45, 35, 20 and 2 %, 10 % more and less at the outer curves; women have 5 % more grey.
MEDIANS = {"grey": 45.0, "white": 35.0, "fluid": 20.0, "ventricles": 2.0}
CURVES = VolumeCurves(
    {
        name: Curve(
            (np.log(share / 100), 0.0, 0.0, 0.05 * (name == "grey")),
            (0.1, 0.0, 0.1),
            tuple(np.linspace(-1, 1, len(LEVELS)).tolist()),
        )
        for name, share in MEDIANS.items()
    },
    300,
    (20.0, 80.0),
    dict.fromkeys(STRUCTURES, 0.9),
)
MODEL = ModelIdentity("oasis", "1", "ab" * 32, {"volume_curves": CURVES.to_json()})
SEEN = Findings(
    label="scan",
    verdict="ok",
    reasons=(),
    recognised="raw head",
    measures={},
    model=MODEL,
    predicted_age_years=57.0,
    age_years=50.0,
    sex="F",
    volumes_ml={"grey": 450.0, "white": 350.0, "fluid": 200.0, "ventricles": 30.0},
)


def notes(findings: Findings) -> dict[str, str]:
    return {row.name: row.note for row in build_report(findings).volumes}


def test_a_volume_is_told_beside_people_of_the_same_age_and_sex() -> None:
    found = notes(SEEN)
    assert found["White matter"] == "35 %, usual"
    assert found["Ventricles"].endswith("highest 5 %")
    # 41.5 % is less than the lower curve of women, 42.8, and not than that of men, 40.7.
    small = replace(SEEN, volumes_ml=dict(SEEN.volumes_ml) | {"grey": 390.0})
    assert notes(small)["Grey matter"].endswith("lowest 5 %")
    assert notes(replace(small, sex="M"))["Grey matter"].endswith("usual")


def test_only_words_that_are_known_tell_the_sex() -> None:
    for typed, told in (
        ("Female", "women"),
        ("mujer", "women and men"),
        ("mulher", "women and men"),
    ):
        report = build_report(replace(SEEN, sex=typed))
        assert report.volume_curves is not None
        assert f"healthy {told} of" in report.volume_curves.caption
        assert report.subject[0] == ("female" if told == "women" else typed)


@pytest.mark.parametrize(
    "changes",
    [
        {"age_years": None},
        {"age_years": 85.0},
        {"model": replace(MODEL, facts={})},
        {"volumes_ml": {}},
    ],
)
def test_without_age_or_curves_there_is_no_comparison(changes: dict[str, Any]) -> None:
    report = build_report(replace(SEEN, **changes))
    assert report.volume_curves is None
    assert not any("usual" in row.note or "est 5 %" in row.note for row in report.volumes)


def test_curves_stand_on_both_pages_in_words_too() -> None:
    report = build_report(SEEN)
    assert report.volume_curves is not None
    assert "Ventricles 30 ml" in report.volume_curves.alternative
    assert "healthy women" in report.volume_curves.caption
    assert report.volume_curves.alternative in render_html(report)
    without = build_report(replace(SEEN, age_years=None))
    assert len(render_pdf(report)) > len(render_pdf(without))


def test_curves_are_pale_where_the_scan_is_unlike_the_cohort() -> None:
    assert 'class="curves muted"' in render_html(build_report(replace(SEEN, ood_percentile=99.5)))
    assert 'class="curves"' in render_html(build_report(SEEN))
    assert notes(replace(SEEN, ood_percentile=99.5))["White matter"] == "35 %"


def test_the_picture_needs_curves() -> None:
    with pytest.raises(ValueError, match="no such picture"):
        draw_volumes(replace(SEEN, age_years=None))
