"""`brainage fetch-cohort`: a public cohort with ages, as BIDS, once its terms are accepted."""

from pathlib import Path

from brainage.cohorts.public import COHORTS, fetch_cohort
from brainage.errors import ConfigError
from brainage.preprocessing.ledger import summarise_ledger, write_ledger
from brainage.workflows.console import bytes_progress, say, warn


def fetch(name: str, output: Path, *, accepted: bool, base_url: str = "") -> None:
    """Show size and terms; download, lay out and report if they are accepted.

    Raises
    ------
    ConfigError
        If the cohort is unknown, or its terms are not accepted with --yes.
    """
    if name not in COHORTS:
        raise ConfigError("fetch", f"unknown cohort {name!r}.", f"Known: {', '.join(COHORTS)}.")
    cohort = COHORTS[name]
    say(f"{name}: about {cohort.size_gb:g} GB from {base_url or cohort.base_url}")
    say(f"terms: {cohort.terms}")
    if not accepted:
        raise ConfigError("fetch", "nothing was downloaded.", "Accept size and terms with --yes.")
    with bytes_progress() as progress:
        report = fetch_cohort(cohort, output, base_url=base_url, on_progress=progress)
    write_ledger(report.entries, output / "ledger.csv")
    for conflict in report.conflicts:
        warn(f"the source contradicts itself, n/a is written: {conflict}")
    say(f"{summarise_ledger(report.entries)}; written to {output}")
