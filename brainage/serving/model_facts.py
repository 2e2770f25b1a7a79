"""What a model's bundle says of itself, as tables for the page."""

from pathlib import Path

import pandas as pd

from brainage.errors import BrainageError
from brainage.evaluation.bounds import DEFAULT_LEVEL as DEFAULT_LEVEL
from brainage.evaluation.normative import held_out_metrics as held_out_metrics
from brainage.evaluation.normative import reference_from_json
from brainage.files import parse_json
from brainage.serving.model_list import FoundModel
from brainage.types import Json

_GROUPS = {"sex": {"F": "Women", "M": "Men"}, "all": {"all": "Everybody"}}
_BASELINES = {
    "linear": "Straight line through the voxels",
    "constant": "The same age for everybody",
}


def read_facts(folder: Path) -> Json:
    """Read the facts of a bundle; empty if they cannot be read."""
    try:
        return dict(parse_json((folder / "bundle.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def age_range(facts: Json) -> str:
    """Write the range of the training ages, such as ``18 to 96``; empty if it is not known."""
    ages = facts.get("cohort", {}).get("train_age_range_years")
    return f"{ages[0]:.0f} to {ages[1]:.0f}" if ages else ""


def overview_table(found: list[FoundModel]) -> pd.DataFrame:
    """List models with what they were trained on and how large their error is."""
    table = []
    for model in found:
        facts = read_facts(model.folder)
        table.append(
            {
                "Model": model.name,
                "Mean error, years": held_out_metrics(facts).get("mae_years"),
                "Scans": facts.get("cohort", {}).get("n_train"),
                "Ages": age_range(facts) or None,
                "Trained by": facts.get("method"),
                "Networks": facts.get("members", 1),
            }
        )
    return pd.DataFrame(table)


def baseline_table(facts: Json) -> pd.DataFrame:
    """Set the model's error beside those of its baselines; empty if there is nothing to compare."""
    metrics = held_out_metrics(facts)
    known = metrics.get("baselines", {})
    rows = [{"what": "This model", "years": metrics.get("mae_years")}]
    rows += [
        {"what": words, "years": known[name]["mae_years"]}
        for name, words in _BASELINES.items()
        if name in known
    ]
    return pd.DataFrame(rows if len(rows) > 1 and rows[0]["years"] is not None else [])


def error_groups(facts: Json) -> pd.DataFrame:
    """List the error of everybody and of each group; empty if the model keeps no groups."""
    everybody = {"group": "all", "value": "all", **facts.get("metrics", {})}
    return _groups([everybody, *facts["subgroups"]] if facts.get("subgroups") else [])


def coverage_groups(facts: Json) -> pd.DataFrame:
    """List the share of ages inside the intervals, of each group."""
    return _groups(facts.get("coverage", []))


def held_out_people(facts: Json) -> pd.DataFrame:
    """List ages and predicted ages of held-out people; empty if the model keeps none."""
    try:
        reference = reference_from_json(facts["reference"])
    except (KeyError, BrainageError):
        return pd.DataFrame()
    return pd.DataFrame(
        {"age_years": reference.age_years, "predicted_age_years": reference.predicted_age_years}
    )


def _groups(rows: list[Json]) -> pd.DataFrame:
    """Name groups for people; a single site without a name is no group."""
    kept = [row for row in rows if row.get("value")]
    return pd.DataFrame(
        [{"label": _label(str(row["group"]), str(row["value"])), **row} for row in kept]
    )


def _label(group: str, value: str) -> str:
    if group == "age_band":
        return f"Age {value.replace('-', '–')}"
    return _GROUPS.get(group, {}).get(value, f"{group.capitalize()} {value}")
