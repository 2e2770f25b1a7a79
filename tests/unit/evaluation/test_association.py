"""The gap and a covariate in made-up people whose truth is known."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from brainage.errors import CohortError
from brainage.evaluation.association import associate, association_table
from brainage.plotting.people import plot_association

GAP = "brain_age_gap_years"


def people(n: int = 150, slope: float = -0.8, seed: int = 0) -> pd.DataFrame:
    """The score falls with age and so does the gap: unadjusted, the slope would be another."""
    random = np.random.default_rng(seed)
    age = random.uniform(55, 85, n)
    score = 40 - 0.2 * age + random.normal(0, 2, n)
    noise = random.normal(0, 1 + 0.1 * (age - 55), n)  # greater in the old: what HC3 is for
    table = pd.DataFrame({"age_years": age, "MMSE": score, "sex": random.choice(["F", "M"], n)})
    return table.assign(site="", **{GAP: slope * score - 0.5 * age + noise})


def test_slope_and_errors_are_those_of_the_formula_with_hc3():
    table = people()
    found, _ = associate(table, GAP, "MMSE")
    formula = f"{GAP} ~ MMSE + age_years + I(age_years ** 2) + sex"
    fit = smf.ols(formula, table).fit(cov_type="HC3")
    assert found.slope == pytest.approx(fit.params["MMSE"], rel=1e-6)
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(fit.conf_int().loc["MMSE"]))
    assert found.p == pytest.approx(fit.pvalues["MMSE"], rel=1e-4)
    assert found.adjusted_for == "age, age², sex"
    assert found.slope_per_sd == pytest.approx(found.slope * table["MMSE"].std())


def test_known_slope_is_found_and_none_is_not():
    found, _ = associate(people(), GAP, "MMSE")
    assert found.ci_low < -0.8 < found.ci_high < 0 and found.partial_r < -0.2
    none, _ = associate(people(slope=0.0), GAP, "MMSE")
    assert none.ci_low < 0 < none.ci_high


def test_adjusted_values_have_the_slope_of_the_whole_model():
    found, adjusted = associate(people(), GAP, "MMSE")
    assert np.polyfit(adjusted.covariate, adjusted.measure, 1)[0] == pytest.approx(found.slope)


def test_people_without_the_covariate_are_left_out_and_counted():
    table = people()
    table.loc[:29, "MMSE"] = np.nan
    assert associate(table, GAP, "MMSE")[0].n == 120


def test_what_age_alone_decides_has_no_association():
    table = people()
    table[GAP] = 51.3 - table["age_years"] + 0.01 * table["age_years"] ** 2
    with pytest.raises(CohortError, match="do not vary"):
        associate(table, GAP, "MMSE")


def test_covariate_that_is_the_age_itself_is_not_adjusted_for_age():
    assert associate(people(), GAP, "age_years")[0].adjusted_for == "age², sex"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"MMSE": "high"}, "MMSE holds 'high', which is no number"),
        ({"MMSE": 28.0}, "all 150 values are equal"),
        ({"MMSE": np.nan}, "0 people"),
        ({GAP: 1.0}, "all 150 values are equal"),
    ],
)
def test_what_cannot_be_related_is_refused(change, told):
    with pytest.raises(CohortError, match=told):
        associate(people().assign(**change), GAP, "MMSE")


def test_too_few_people_for_the_terms_are_refused():
    with pytest.raises(CohortError, match="7 people"):
        associate(people(7), GAP, "MMSE")


def test_p_of_several_covariates_is_corrected_for_their_number():
    table = people(60).assign(education=np.random.default_rng(1).normal(size=60))
    rows = [associate(table, GAP, name)[0] for name in ("MMSE", "education")]
    result = association_table(rows)
    assert result["p_holm"].iloc[0] == pytest.approx(2 * rows[0].p)
    assert result["p_holm"].iloc[1] == pytest.approx(max(rows[1].p, 2 * rows[0].p))


def test_picture_is_written(tmp_path):
    plot_association(*associate(people(40), GAP, "MMSE"), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_one_person_of_a_site_changes_neither_interval_nor_p():
    """Their leverage is 1: errors of rounding, divided by 0, were an endless interval and p 1."""
    for seed in range(40):
        table = people(40, seed=seed)
        alone = pd.DataFrame({"age_years": [70.0], "MMSE": [25.0], "sex": "M", GAP: [3.0]})
        wider = pd.concat([table, alone.assign(site="own")], ignore_index=True)
        without, with_them = (associate(t, GAP, "MMSE")[0] for t in (table, wider))
        told = [(found.slope, found.ci_low, found.p) for found in (without, with_them)]
        assert told[0] == pytest.approx(told[1])


def test_slope_that_one_person_decides_is_refused():
    """Rounding gave such a slope a p of 7e-8."""
    for seed in range(4):
        table = people(40, seed=seed).assign(stroke=0.0)
        table.loc[3, "stroke"] = 1.0
        with pytest.raises(CohortError, match="one person"):
            associate(table, GAP, "stroke")


def test_unit_of_the_covariate_decides_nothing_but_its_own():
    """Times in nanoseconds since 1970: beside them age, sex and site seemed to add nothing."""
    table = people()
    table["time"] = 1.7e18 + 1e12 * table["MMSE"]
    found, other = (associate(table, GAP, name)[0] for name in ("time", "MMSE"))
    assert found.adjusted_for == other.adjusted_for == "age, age², sex"
    assert found.slope * 1e12 == pytest.approx(other.slope, rel=1e-3)
    assert found.p == pytest.approx(other.p, rel=1e-2)


def test_a_gap_on_the_predicted_age_it_is_made_of_is_refused():
    table = people()
    table["predicted_age_years"] = (table[GAP] + table["age_years"]).round(4)
    table[GAP] = table["predicted_age_years"] - table["age_years"]
    with pytest.raises(CohortError, match="it is predicted_age_years itself"):
        associate(table, GAP, "predicted_age_years")
    twin = table.assign(score=3 * table["MMSE"] - table["age_years"])
    with pytest.raises(CohortError, match="beyond age, age², sex it is MMSE itself"):
        associate(twin, "score", "MMSE")
