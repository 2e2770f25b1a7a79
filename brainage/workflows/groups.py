"""`brainage groups`, `associate` and `reliability`: what a prediction table says about people."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from brainage.evaluation.association import Association, associate, association_table
from brainage.evaluation.groups import effect_table, group_effect
from brainage.evaluation.longitudinal import GAP
from brainage.evaluation.reliability import (
    measure_reliability,
    reliability_table,
    repeated_scans,
)
from brainage.plotting.people import plot_association
from brainage.plotting.science import plot_bland_altman, plot_groups
from brainage.workflows.cohorts import CohortOptions
from brainage.workflows.console import say
from brainage.workflows.results import write_table
from brainage.workflows.tables import first_scans, read_joined, select_cases


def groups(
    predictions: Sequence[Path],
    group: str,
    output: Path,
    cohort_options: CohortOptions | None,
    measures: list[str],
) -> pd.DataFrame:
    """Write groups.csv and a picture a measure.

    Raises
    ------
    CohortError
        If a column or the filter is wrong, or a group is too small.
    """
    table = read_joined(predictions, cohort_options)
    people = first_scans(table)
    cases = select_cases(people, group)
    effects = [group_effect(people, measure, cases) for measure in (GAP, *measures)]
    result = effect_table(effects)
    write_table(result, output / "groups.csv")
    for effect in effects:
        plot_groups(people, cases, effect, output / f"{effect.measure}.png", name=group)
        say(
            f"{effect.measure}: {effect.n_cases} cases - {effect.n_controls} controls = "
            f"{effect.difference:+.3g} (95 % CI {effect.ci_low:+.3g} to {effect.ci_high:+.3g}, "
            f"p {effect.p:.2g}), d {effect.d:+.2f}, AUC {effect.auc:.2f} "
            f"({effect.auc_ci_low:.2f} to {effect.auc_ci_high:.2f})"
        )
    say(f"written to {output}")
    return result


def associations(
    predictions: Sequence[Path],
    covariates: list[str],
    output: Path,
    cohort_options: CohortOptions | None,
    measures: list[str],
) -> pd.DataFrame:
    """Write associations.csv, and a picture for each measure and covariate.

    Raises
    ------
    CohortError
        If a column is missing or not numbers, or there are too few people.
    """
    people = first_scans(read_joined(predictions, cohort_options))
    found: list[Association] = []
    for measure in (GAP, *measures):
        for covariate in covariates:
            one, adjusted = associate(people, measure, covariate)
            found.append(one)
            plot_association(one, adjusted, output / f"{measure}-{covariate}.png")
            say(
                f"{measure} on {covariate}: {one.slope:+.3g} a unit (95 % CI {one.ci_low:+.3g} to "
                f"{one.ci_high:+.3g}, p {one.p:.2g}), partial r {one.partial_r:+.2f}, "
                f"n {one.n}, adjusted for {one.adjusted_for or 'nothing'}"
            )
    result = association_table(found)
    write_table(result, output / "associations.csv")
    say(f"written to {output}")
    return result


def reliability(
    predictions: Path,
    output: Path,
    cohort_options: CohortOptions | None,
    measures: list[str],
    max_years: float,
) -> pd.DataFrame:
    """Write reliability.csv and a Bland-Altman picture of predicted age, gap and any measure.

    Raises
    ------
    CohortError
        If a column is missing or fewer than two people have two scans.
    """
    table = read_joined(predictions, cohort_options)
    values = repeated_scans(table, ("predicted_age_years", GAP, *measures), max_years)
    result = reliability_table(values)
    write_table(result, output / "reliability.csv")
    for name, pairs in values.items():
        row = measure_reliability(pairs, name)
        plot_bland_altman(pairs, row, output / f"{name}.png")
        say(
            f"{name}: {row.n_subjects} pairs, ICC(2,1) {row.icc:.3f} (95 % CI "
            f"{row.icc_ci_low:.3f} to {row.icc_ci_high:.3f}), within-subject SD "
            f"{row.within_sd:.2f}, smallest detectable change {row.smallest_detectable_change:.2f}"
        )
    say(f"written to {output}")
    return result
