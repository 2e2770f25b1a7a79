"""Volumes against age: the curves hold the share of people that they say, and nobody's data."""

import json

import numpy as np
import pandas as pd
import pytest

from brainage.errors import CohortError
from brainage.evaluation.volume_curves import STRUCTURES, VolumeCurves, curves_from_json, fit_curves
from tests.people import people


@pytest.fixture(scope="module")
def curves() -> VolumeCurves:
    return fit_curves(people(400))


def test_curves_hold_their_share_of_new_people(curves: VolumeCurves) -> None:
    new = people(3000, seed=1)
    whole = new[["grey_ml", "white_ml", "fluid_ml"]].sum(axis=1)
    for name in STRUCTURES:
        share, inside = 100 * new[f"{name}_ml"] / whole, 0
        for sex in "FM":
            chosen = new["sex"] == sex
            lines = curves.centiles(name, new.loc[chosen, "age_years"], sex)
            inside += ((lines[0] <= share[chosen]) & (share[chosen] <= lines[-1])).sum()
        assert 0.85 < inside / len(new) < 0.95
        assert abs(curves.coverage[name] - 0.9) < 0.03


def test_curves_follow_age_and_sex(curves: VolumeCurves) -> None:
    young, old = curves.centiles("fluid", [25, 75], "F")[2]
    assert old > young + 4
    women, men, unknown = (curves.centiles("fluid", [50], sex)[2, 0] for sex in ("F", "M", ""))
    assert women < unknown < men


def test_curves_never_cross(curves: VolumeCurves) -> None:
    for name in STRUCTURES:
        assert (np.diff(curves.centiles(name, np.linspace(20, 80, 50)), axis=0) >= 0).all()


def test_what_is_kept_says_nothing_of_a_person(curves: VolumeCurves) -> None:
    text = json.dumps(curves.to_json())
    assert len(text) < 4000
    assert curves.ages_years == (20.0, 80.0)  # rounded outwards, so not the youngest's age
    again = curves_from_json(json.loads(text))
    np.testing.assert_array_equal(again.centiles("white", [40]), curves.centiles("white", [40]))
    assert again.knows(79.0) and not again.knows(81.0)


def test_a_volume_of_nothing_is_left_out() -> None:
    table = people(60)
    empty = people(1, seed=2).assign(subject_id="none", ventricles_ml=0.0)
    assert fit_curves(pd.concat([empty, table])).curves == fit_curves(table).curves


def test_a_person_counts_once_and_unknown_ones_not_at_all() -> None:
    table = people(60)
    twice = pd.concat([table, table.assign(fluid_ml=900)])
    unknown = people(40, seed=2).assign(sex="", subject_id=[f"u{n}" for n in range(40)])
    found = fit_curves(pd.concat([twice, unknown]))
    assert found.n == 60
    assert found.curves == fit_curves(table).curves


def test_too_few_people_are_refused() -> None:
    with pytest.raises(CohortError, match="40 people"):
        fit_curves(people(40))


@pytest.mark.parametrize("men", [0, 9])
def test_curves_of_one_sex_are_refused(men: int) -> None:
    """The other's would be drawn half an intercept away."""
    table = people(160)
    few = table[table["sex"] == "M"].head(men)
    with pytest.raises(CohortError, match=f"{men} men"):
        fit_curves(pd.concat([table[table["sex"] == "F"], few]))
