"""What `calibrate` and `finetune` share: people of a site, and a model written anew for them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from brainage.errors import CohortError, TrainingError
from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.metrics import paired_difference
from brainage.inference.predict import check_ages
from brainage.model.bundle import Bundle, copy_bundle
from brainage.preprocessing.ledger import write_ledger
from brainage.types import DoubleArray, HalfArray, Json, LedgerEntry
from brainage.workflows.cohorts import CohortOptions, prepare_options
from brainage.workflows.console import warn
from brainage.workflows.models import load_model
from brainage.workflows.seen import unseen_rows
from brainage.workflows.tables import first_scans


@dataclass(frozen=True, eq=False)
class SiteCohort:
    """A model, and people of a site that it was not trained on.

    Attributes
    ----------
    bundle : Bundle
    people : pandas.DataFrame
        The first scan of each person.
    arrays : numpy.ndarray of float16 (N, I, J, K)
        Their prepared scans.
    entries : list of LedgerEntry
        What became of every scan of the cohort.
    """

    bundle: Bundle
    people: pd.DataFrame
    arrays: HalfArray
    entries: list[LedgerEntry]

    @property
    def age_years(self) -> DoubleArray:
        """Ages of the people (N,)."""
        return self.people["age_years"].to_numpy(np.float64)

    @property
    def sites(self) -> list[str]:
        """Names of their sites, where they are told."""
        return sorted({str(name) for name in self.people["site"] if name})

    def write(
        self,
        output: Path,
        bundle: Bundle,
        calibration: ConformalInterval,
        changes: Json | None = None,
    ) -> None:
        """Write a model with these people's intervals and other facts, and the ledger beside it.

        Sites left out tell no more of a scanner than its own people: their intervals go.
        """
        fitted: Json = {
            "calibration": calibration.to_json(),
            "coverage": [],
            "left_out_calibration": None,
            "own_sites": self.sites,
            "selftest": None,  # what the model predicted before
            **(changes or {}),
        }
        copy_bundle(bundle, output, fitted)
        write_ledger(self.entries, output / "ledger.csv")

    def compare_constant(self, error_years: DoubleArray) -> None:
        """Warn where the model may not beat the median age of the people.

        Of ages so alike, a small error says nothing of a person of another age. (The median of the
        others alone errs more than a constant does, where no one is of about that age.)
        """
        ages = self.age_years
        constant = np.abs(ages - np.median(ages))
        gain = paired_difference(constant, error_years)
        if gain["ci_low"] is None or gain["ci_low"] <= 0:
            warn(
                f"their median age alone has an MAE of {constant.mean():.2f} years, "
                f"the new model {error_years.mean():.2f}: people of {ages.min():.0f} to "
                f"{ages.max():.0f} years do not show that it tells their ages, or any other."
            )


def read_site(
    model: Path, cohort_options: CohortOptions, output: Path, least: int, called: str
) -> SiteCohort:
    """Load the model and prepare the people that it was not trained on.

    Parameters
    ----------
    least : int
        People that are needed.
    called : str
        What they are called in the error.

    Raises
    ------
    CohortError
        If fewer people are left.
    TrainingError
        If the output already holds a model.
    """
    if (output / "manifest.json").exists():
        raise TrainingError(str(output), "already holds a model.", "Choose another --output.")
    bundle = load_model(model).bundle
    check_ages(bundle.config)
    prepared, entries = prepare_options(cohort_options, bundle.config.preprocessing)
    table = prepared.cohort.table.assign(row=np.arange(len(prepared.cohort)))
    people = first_scans(table[unseen_rows(bundle, table)])
    if len(people) < least:
        problem = f"{len(people)} {called} that the model was not trained on."
        raise CohortError(cohort_options.source, problem, f"At least {least} are needed.")
    site = SiteCohort(bundle, people, prepared.arrays[people["row"].to_numpy()], entries)
    _tell_outside(bundle, site.age_years)
    if len(site.sites) > 1:
        told = f"they are of {len(site.sites)} sites ({', '.join(site.sites)})"
        warn(f"{told}: what is fitted is their mean, and may fit none of them.")
    return site


def _tell_outside(bundle: Bundle, age_years: DoubleArray) -> None:
    """Warn of people whose age the networks cannot tell, whatever their scan."""
    low, high = bundle.facts.get("model_age_range_years", (-np.inf, np.inf))
    outside = int(((age_years < low) | (age_years > high)).sum())
    if outside:
        told = f"{outside} of {len(age_years)} people are outside the {low:.0f} to {high:.0f} years"
        warn(f"{told} that the networks can tell.")
