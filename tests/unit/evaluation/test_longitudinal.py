"""Change of the gap in made-up people whose rate is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from brainage.errors import CohortError
from brainage.evaluation.longitudinal import estimate_change, repeated_people, yearly_change
from brainage.plotting.people import plot_change


def followed(
    people: int, rate: float, *, scans: int = 2, spread: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """People of 40 to 80, whose gap falls with age between them and changes at a rate within."""
    random = np.random.default_rng(seed)
    first = random.uniform(40, 80, people)
    years = np.cumsum(random.uniform(1, 3, (people, scans)), axis=1)
    own = rate + spread * random.normal(size=(people, 1))
    gap = -0.4 * (first[:, None] - 60) + 6 * random.normal(size=(people, 1)) + own * years
    return pd.DataFrame(
        {
            "subject_id": np.repeat([f"p{number}" for number in range(people)], scans),
            "age_years": (first[:, None] + years).ravel(),
            "brain_age_gap_years": (gap + random.normal(0, 1.5, gap.shape)).ravel(),
        }
    )


def test_two_evenly_spaced_scans_give_the_interval_of_the_paired_differences():
    random = np.random.default_rng(3)
    before = random.normal(0, 6, 12)
    after = before + random.normal(1.0, 1.0, 12)
    table = pd.DataFrame(
        {
            "subject_id": [f"p{number}" for number in [*range(12), *range(12)]],
            "age_years": [60.0] * 12 + [62.0] * 12,
            "brain_age_gap_years": [*before, *after],
        }
    )
    found = estimate_change(table)
    rates = (after - before) / 2
    half = stats.t.ppf(0.975, 11) * rates.std(ddof=1) / np.sqrt(12)
    assert found.change_per_year == pytest.approx(rates.mean(), rel=1e-6)
    assert found.ci_high - found.change_per_year == pytest.approx(half, rel=1e-3)
    assert found.p == pytest.approx(stats.ttest_1samp(rates, 0).pvalue, rel=1e-2)
    assert (found.n_subjects, found.n_scans, found.median_years) == (12, 24, 2.0)


@pytest.mark.parametrize("people", [3, 5])
def test_few_people_get_an_estimate_whatever_the_first_step_of_the_fit(people):
    """One in six such cohorts ended in a singular matrix."""
    for seed in range(25):
        random = np.random.default_rng(seed)
        first = random.normal(0, 4, people)
        rates = random.normal(0.5, 1.4, people)
        table = pd.DataFrame(
            {
                "subject_id": np.tile(np.arange(people), 2),
                "age_years": np.concatenate([first + 60, first + 62]),
                "brain_age_gap_years": np.concatenate([first, first + 2 * rates]),
            }
        )
        found = estimate_change(table)
        assert found.change_per_year == pytest.approx(rates.mean(), abs=1e-6)
        assert found.ci_low < found.change_per_year < found.ci_high


@pytest.mark.parametrize(("scans", "spread"), [(2, 0.0), (4, 0.4)])
def test_known_rate_is_found_although_gaps_differ_between_ages(scans, spread):
    found = estimate_change(followed(60, 0.7, scans=scans, spread=spread))
    assert found.ci_low < 0.7 < found.ci_high
    assert found.ci_low > 0.3


def test_intervals_hold_the_rate_as_often_as_they_say():
    held = 0
    for seed in range(30):
        found = estimate_change(followed(15, 0.7, seed=seed))
        held += found.ci_low < 0.7 < found.ci_high
    assert held >= 26  # of 30 at 95 %: fewer have a probability of 0.2 %


def test_spread_of_own_slopes_is_told_where_people_have_three_scans():
    found = estimate_change(followed(60, 0.7, scans=4, spread=0.8))
    assert found.model == "own intercepts and slopes"
    assert found.slope_sd == pytest.approx(0.8, abs=0.25)
    assert np.isnan(estimate_change(followed(60, 0.7)).slope_sd)


def test_retests_without_change_hold_zero():
    table = followed(20, 0.0, seed=5)
    assert estimate_change(table).ci_low < 0 < estimate_change(table).ci_high


def test_time_may_come_from_another_column_than_the_age():
    table = followed(20, 0.7)
    rounded = table.assign(years=table["age_years"], age_years=table["age_years"].round())
    found = estimate_change(rounded, "years")
    assert found.change_per_year == pytest.approx(estimate_change(table).change_per_year, abs=0.02)


@pytest.mark.parametrize("per_year", [12.0, 365.25, 0.1], ids=["months", "days", "decades"])
def test_times_of_another_unit_are_refused(per_year):
    table = followed(20, 0.5)
    table["time"] = (table["age_years"] - 40) * per_year
    with pytest.raises(CohortError, match="ages move by"):
        estimate_change(table, "time")


def test_times_that_are_no_numbers_are_refused():
    table = followed(5, 0.5).assign(visit=["m00", "m12"] * 5)
    with pytest.raises(CohortError, match="'visit' holds what is not a number"):
        repeated_people(table, "visit")


def test_ages_of_the_first_scan_beside_later_times_are_refused():
    table = followed(20, 0.5).assign(time=lambda found: found["age_years"] - 40)
    table["age_years"] = table.groupby("subject_id")["age_years"].transform("min")
    with pytest.raises(CohortError, match="ages move by 0 years"):
        estimate_change(table, "time")


@pytest.mark.parametrize("people", [5, 200])
def test_ages_in_whole_years_beside_exact_times_are_not_refused(people):
    for seed in range(20):
        table = followed(people, 0.5, seed=seed).assign(time=lambda found: found["age_years"])
        assert len(repeated_people(table.assign(age_years=np.floor(table["time"])), "time"))


def test_people_scanned_once_or_twice_at_one_age_are_left_out():
    table = pd.DataFrame(
        {
            "subject_id": ["a", "b", "b", "c", "c", "c"],
            "age_years": [60.0, 61, 61, 65, 62, np.nan],
            "brain_age_gap_years": [0.0] * 6,
        }
    )
    kept = repeated_people(table)
    assert list(kept["subject_id"]) == ["c", "c"] and list(kept["age_years"]) == [62, 65]


def test_too_few_people_and_gaps_that_never_change_are_refused():
    with pytest.raises(CohortError, match="2 people"):
        estimate_change(followed(2, 0.7))
    with pytest.raises(CohortError, match="no person"):
        estimate_change(followed(5, 0.7).assign(brain_age_gap_years=1.0))


def test_ages_that_do_not_move_make_the_option_for_the_times_known():
    people = followed(5, 0.7)
    people["age_years"] = people.groupby("subject_id")["age_years"].transform("first")
    with pytest.raises(CohortError, match="--time"):
        estimate_change(people)


def test_change_of_two_scans_is_difference_over_years_and_judged_by_the_noise():
    table = pd.DataFrame(
        {
            "subject_id": ["b", "b", "a", "a", "c"],
            "age_years": [70.0, 74.0, 60.0, 62.0, 50.0],
            "brain_age_gap_years": [0.0, 20.0, 1.0, 2.0, 3.0],
        }
    )
    change = yearly_change(table, within_sd_years=2.0).set_index("subject_id")
    assert change.index.tolist() == ["a", "b"]
    assert change["gap_change_per_year"].to_dict() == {"a": 0.5, "b": 5.0}
    smallest = 1.96 * np.sqrt(2) * 2.0
    assert change.loc["a", "smallest_detectable_per_year"] == pytest.approx(smallest / 2)
    assert change["exceeds"].to_dict() == {"a": False, "b": True}


@pytest.mark.parametrize("noise", [None, 1.5])
def test_picture_is_written_with_and_without_the_noise(noise, tmp_path):
    table = followed(8, 0.7)
    changes = yearly_change(table, noise)
    path = tmp_path / "change.png"
    plot_change(repeated_people(table), changes, estimate_change(table), path, "age_years")
    assert path.read_bytes().startswith(b"\x89PNG")
