"""Group differences on made-up people whose truth is known."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from sklearn.metrics import roc_auc_score

from brainage.errors import CohortError
from brainage.evaluation.groups import auc_interval, group_effect
from brainage.plotting.science import plot_groups


def people(n: int = 160, effect: float = 5.0, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Cases are older, and their gap falls with age: unadjusted, the effect would vanish."""
    random = np.random.default_rng(seed)
    cases = np.arange(n) % 4 == 0
    age = random.uniform(50, 80, n) + 10 * cases
    gap = -0.5 * (age - 65) + effect * cases + random.normal(0, 3, n)
    sex = random.choice(["F", "M"], n)
    table = pd.DataFrame({"age_years": age, "brain_age_gap_years": gap, "sex": sex, "site": ""})
    return table, cases


def test_effect_is_that_of_the_formula_with_hc3_errors():
    table, cases = people()
    effect = group_effect(table, "brain_age_gap_years", cases)
    data = table.assign(case=cases.astype(float), age=table["age_years"])
    formula = "brain_age_gap_years ~ case + age + I(age ** 2) + sex"
    fit = smf.ols(formula, data).fit(cov_type="HC3")
    assert effect.difference == pytest.approx(fit.params["case"], rel=1e-6)
    assert (effect.ci_low, effect.ci_high) == pytest.approx(tuple(fit.conf_int().loc["case"]))
    assert effect.covariates == "age, age², sex"


def test_effect_hidden_by_age_is_found():
    table, cases = people()
    effect = group_effect(table, "brain_age_gap_years", cases)
    assert effect.ci_low < 5.0 < effect.ci_high and effect.p < 1e-6
    raw = roc_auc_score(cases, table["brain_age_gap_years"])
    assert raw < 0.6 < 0.8 < effect.auc and effect.d_ci_low > 0.8


def test_no_effect_is_not_found():
    table, cases = people(effect=0.0)
    effect = group_effect(table, "brain_age_gap_years", cases)
    assert effect.ci_low < 0 < effect.ci_high and effect.auc_ci_low < 0.5 < effect.auc_ci_high


def test_measure_that_is_the_group_itself_is_refused():
    table, cases = people()
    table["diagnosis"] = 2.0 + cases + 0.1 * table["age_years"]
    with pytest.raises(CohortError, match="the group itself"):
        group_effect(table, "diagnosis", cases)


def test_covariate_that_repeats_the_group_is_left_out():
    table, _ = people()
    effect = group_effect(table, "brain_age_gap_years", np.asarray(table["sex"] == "M"))
    assert effect.covariates == "age, age²" and np.isfinite(effect.difference)


@pytest.mark.parametrize("column", ["sex", "site"])
def test_auc_knows_no_effect_of_what_only_cases_have(column):
    """All controls are men, or of site b: the others' mean is no other for that."""
    table, cases = people()
    table["brain_age_gap_years"] += 30.0
    table[column] = np.where(cases & (np.arange(len(cases)) % 8 == 0), "F", "M")
    without = group_effect(table.assign(**{column: ""}), "brain_age_gap_years", cases)
    assert group_effect(table, "brain_age_gap_years", cases).auc == pytest.approx(without.auc)


def test_controls_that_the_line_goes_through_are_too_few():
    table, cases = people(12)
    with pytest.raises(CohortError, match="3 controls cannot carry"):
        group_effect(table, "brain_age_gap_years", ~cases)


def test_gap_of_a_constant_prediction_is_not_compared():
    """It is a line in age: what rounding leaves had a p of 0.04."""
    table, cases = people()
    gap = 51.3 - table["age_years"]
    for measure in (gap, gap + table["age_years"]):
        with pytest.raises(CohortError, match=r"do not vary|are equal"):
            group_effect(table.assign(brain_age_gap_years=measure), "brain_age_gap_years", cases)


def test_auc_is_that_of_scikit_learn_and_its_interval_that_of_hanley_and_mcneil():
    random = np.random.default_rng(1)
    above, below = random.normal(1, 1, 30), random.normal(0, 1, 50)
    auc, low, high = auc_interval(above, below)
    labels = np.r_[np.ones(30), np.zeros(50)]
    assert auc == pytest.approx(roc_auc_score(labels, np.r_[above, below]))
    # Hanley & McNeil 1982, Table: AUC 0.893, 51 abnormal and 58 normal: SE 0.032.
    a, n, m = 0.893, 51, 58
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (n - 1) * (q1 - a * a) + (m - 1) * (q2 - a * a)) / (n * m)
    assert np.sqrt(variance) == pytest.approx(0.032, abs=1e-3)
    assert low < auc < high


def test_tiny_groups_are_refused():
    table, cases = people()
    with pytest.raises(CohortError, match="2 cases"):
        group_effect(table, "brain_age_gap_years", cases & (np.arange(160) < 8))


def test_group_picture_is_written(tmp_path):
    table, cases = people(40)
    effect = group_effect(table, "brain_age_gap_years", cases)
    path = plot_groups(table, cases, effect, tmp_path / "gap.png", name="CDR > 0")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_difference_that_one_person_decides_is_refused():
    """Of three cases two are alone at their sites: the third makes the difference."""
    table, _ = people(40)
    cases = np.arange(40) < 3
    table.loc[:1, "site"] = ["x", "y"]
    with pytest.raises(CohortError, match="one person"):
        group_effect(table, "brain_age_gap_years", cases)
