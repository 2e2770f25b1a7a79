"""`brainage longitudinal`: how the gap of people changes who were scanned again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from brainage.errors import CohortError
from brainage.evaluation.longitudinal import (
    GAP,
    GapChange,
    estimate_change,
    repeated_people,
    yearly_change,
)
from brainage.evaluation.metrics import smallest_detectable_change
from brainage.evaluation.reliability import measure_reliability, repeated_scans
from brainage.plotting.people import plot_change
from brainage.workflows.cohorts import CohortOptions
from brainage.workflows.console import say, warn
from brainage.workflows.results import write_table
from brainage.workflows.tables import read_joined, refuse_several_models


@dataclass(frozen=True)
class ChangeOptions:
    """Say what is time, and how far a gap moves without any change.

    Attributes
    ----------
    time : str
        Column with the time of each scan in years; the age, where no other is named.
    within_sd_years : float, optional
        Within-subject standard deviation of the gap, from `brainage reliability`.
    retests : pathlib.Path, optional
        Table of predictions of retests, from which it is computed instead.
    retest_years : float
        Scans of a person that lie no farther apart are retests.
    """

    time: str = "age_years"
    within_sd_years: float | None = None
    retests: Path | None = None
    retest_years: float = 0.5


def longitudinal(
    predictions: Sequence[Path],
    output: Path,
    cohort_options: CohortOptions | None,
    options: ChangeOptions | None = None,
) -> GapChange:
    """Write change.csv (the cohort), longitudinal.csv (each person) and a picture.

    Raises
    ------
    CohortError
        If a column is missing, or fewer than 3 people have scans at two times.
    """
    options = options or ChangeOptions()
    table = read_joined(predictions, cohort_options)
    change = estimate_change(table, options.time)
    noise = _noise(table, options)
    people = yearly_change(table, noise, options.time)
    row = pd.DataFrame([asdict(change)])
    within = np.nan if noise is None else noise
    detectable = smallest_detectable_change(within)
    row["within_sd_years"], row["smallest_detectable_change_years"] = within, detectable
    write_table(row, output / "change.csv")
    write_table(people, output / "longitudinal.csv")
    plot_change(
        repeated_people(table, options.time), people, change, output / "change.png", options.time
    )
    say(
        f"the gap changes by {change.change_per_year:+.2f} years a year (95 % CI "
        f"{change.ci_low:+.2f} to {change.ci_high:+.2f}, p {change.p:.2g}) in {change.n_subjects} "
        f"people, {change.n_scans} scans, median {change.median_years:.1f} years; {change.model}"
    )
    if noise is None:
        warn("no retests: give --retests or --within-sd to tell a person's change from noise.")
    else:
        say(
            f"smallest detectable change between two scans {detectable:.1f} years; "
            f"{int(people['exceeds'].sum())} of {len(people)} people exceed their own"
        )
    say(f"written to {output}")
    return change


def _noise(table: pd.DataFrame, options: ChangeOptions) -> float | None:
    """Return the within-subject SD of the gap: as given, else of retests, else not known."""
    if options.within_sd_years is not None:
        return options.within_sd_years
    if options.retests is not None:
        retests = read_joined(options.retests, None)
        refuse_several_models([table, retests], "--retests")
        pairs = repeated_scans(retests, [GAP], options.retest_years)
        return measure_reliability(pairs[GAP], GAP).within_sd
    try:
        # The time takes the age's place: scans of one rounded age may lie a year apart.
        timed = table.assign(age_years=table[options.time])
        pairs = repeated_scans(timed, [GAP], options.retest_years)
    except CohortError:
        return None
    reliability = measure_reliability(pairs[GAP], GAP)
    say(
        f"{reliability.n_subjects} people were scanned twice within {options.retest_years:g} "
        f"years: within-subject SD {reliability.within_sd:.2f} years"
    )
    return reliability.within_sd
