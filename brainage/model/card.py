"""Model card and data card of a bundle, in Markdown, filled from the facts of the run.

Sections follow Mitchell et al. 2019 (arXiv 1810.03993) and Gebru et al. 2021 (arXiv 1803.09010).
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brainage.evaluation.left_out import left_out_markdown
from brainage.evaluation.metrics import describe_unbeaten
from brainage.evaluation.robustness import describe_training_share, robustness_markdown
from brainage.types import Json

_INTENDED_USE = """## Intended use

- Research on groups of adults with T1 scans like those of the training cohort.
- Not for diagnosis, screening, insurance or employment, nor for any decision about one person: the
  interval of a single prediction spans many years.
- A brain-age gap is a prediction error. It mixes biology with scanner, sequence, motion and chance.
"""

_LIMITS = """## Limits

- Scanners, sequences and populations other than the training cohort's can shift the prediction
  by years. `ood_percentile` near 100 says that a scan is unlike all training scans; a site with 20
  healthy controls of its own can run `brainage calibrate`.
- Intervals hold for scans from the calibration scans' population; on another scanner they may not.
- Ages outside the training range cannot be predicted. The gap falls with age (see the slope):
  compare groups with age as a covariate.
"""

_CONTAMINATION = """## Contamination list

`bundle.json` keeps SHA-256 hashes of the ids of all scans used (`split_id_hashes`) and, from models
trained since 0.3, of all people (`split_subject_hashes`), never the ids. `brainage evaluate` leaves
out scans and people in the train or validation list. A test on scans that were trained on under
other names is not caught: keep your ids.
"""


def build_card(facts: Json) -> str:
    """Model card and data card from the facts of the run."""
    lines = ["# Model card", "", "Research use only. Never a diagnosis.", ""]
    if "dataset" in facts:
        return "\n".join([*lines, *_image_card(facts)])
    if facts.get("cohort", {}).get("synthetic"):
        lines += ["**Trained on synthetic phantoms: its ages mean nothing.**", ""]
    unbeaten = describe_unbeaten(facts.get("metrics", {}))
    if unbeaten:
        lines += [f"**{unbeaten[0].upper()}{unbeaten[1:]}.**", ""]
    if "release_note" in facts:
        lines += [facts["release_note"], ""]
    lines += ["## Model", "", *_markdown_table("", _about(facts)), ""]
    lines += ["## Error on the test scans", "", *_markdown_table("MAE, years", _errors(facts)), ""]
    lines += ["Errors and gaps are raw: no age-bias correction was applied.", ""]
    if found := facts.get("finetuned"):
        said = f"**Finetuned on {found['n']} people, whom it predicts with an MAE of "
        said += f"{found['mae_years']:.2f} years out of fold. The other errors on this card are of "
        lines += [f"{said}the model before that.**", ""]
    lines += (
        _subgroups(facts)
        + _left_out(facts)
        + _intervals(facts)
        + _robustness(facts)
        + _retests(facts)
        + _volumes(facts)
        + _leakage(facts)
    )
    lines += [_INTENDED_USE, _LIMITS, "# Data card", ""]
    lines += [*_markdown_table("", _data(facts)), "", _CONTAMINATION]
    return "\n".join(lines)


def _image_card(facts: Json) -> list[str]:
    metrics: Json = facts.get("metrics", {})
    about = {
        "network": f"{facts['network']}, {facts['blocks']} blocks",
        "parameters": f"{facts['parameters']:,}",
        "method": facts["method"],
        "data": str(facts["dataset"]),
        "predicts": f"one of {facts['classes']} classes",
        "software": f"brainage {facts['brainage_version']}, commit {facts['git_commit']}",
    }
    accuracy = {
        "this model": _number(metrics.get("test_accuracy"), 4),
        "training images": str(metrics.get("n_train", "?")),
        "test images": str(metrics.get("n_test", "?")),
    }
    lines = ["## Model", "", *_markdown_table("", about), ""]
    return [*lines, "## On the test images", "", *_markdown_table("accuracy", accuracy), ""]


def _about(facts: Json) -> Json:
    members = facts.get("members", 1)
    networks = f"ensemble of {members} × " if members > 1 else ""
    return {
        "network": f"{networks}{facts['network']}, {facts['blocks']} blocks",
        "parameters": f"{facts['parameters']:,}",
        "method": facts["method"],
        "predicts": _range(facts["model_age_range_years"]),
        "input": "brain-extracted T1 in MNI space",
        "seed": facts.get("seed", "?"),
        "software": f"brainage {facts['brainage_version']}, commit {facts['git_commit']}",
    }


def _errors(facts: Json) -> Json:
    metrics: Json = facts.get("metrics", {})
    rows = {
        "this model": f"{_number(metrics.get('mae_years'))} (95 % CI {_interval(metrics, 'mae')})"
    }
    for name, values in metrics.get("baselines", {}).items():
        rows[f"{name} baseline"] = _number(values.get("mae_years"))
    return rows | {
        "mean gap": _number(metrics.get("bias_years")),
        "slope of the gap on age": _number(metrics.get("gap_slope")),
        "r": _number(metrics.get("r")),
        "scans": str(metrics.get("n", "?")),
    }


def _subgroups(facts: Json) -> list[str]:
    rows = facts.get("subgroups", [])
    if not rows:
        return []
    lines = ["## Error by sex, age band and site", ""]
    lines += ["| group | n | MAE, years (95 % CI) | mean gap, years |", "|---|---:|---:|---:|"]
    lines += [
        f"| {row['group']} {row['value']} | {row['n']} | {_number(row['mae_years'])} "
        f"({_interval(row, 'mae')}) | {_number(row['bias_years'])} |"
        for row in rows
    ]
    return [*lines, ""]


def _left_out(facts: Json) -> list[str]:
    rows = facts.get("left_out")
    if not rows:
        return []
    lines = ["## Error on sites that were left out", "", left_out_markdown(pd.DataFrame(rows)), ""]
    if facts.get("left_out_calibration"):
        lines += ["Intervals around new scans are from these errors.", ""]
    return lines


def _intervals(facts: Json) -> list[str]:
    # As `Bundle.intervals` chooses.
    calibration = facts.get("left_out_calibration") or facts.get("calibration")
    if not calibration:
        return ["## Intervals", "", "None: this model was not calibrated.", ""]
    people = sum(len(band) for band in calibration["scores"])
    lines = ["## Intervals", ""]
    lines += [
        f"Split conformal, {calibration['kind'].replace('_', '-')} scores of {people} people "
        f"({calibration['source']}), {len(calibration['scores'])} bands of predicted age.",
        "",
    ]
    if calibration.get("offset_years"):
        lines += [
            f"**Recalibrated: {calibration['offset_years']:+.2f} years, the shrunken mean gap of a "
            "site's own controls, are subtracted from every prediction.**",
            "",
        ]
    rows = facts.get("coverage", [])
    if rows:
        if facts.get("left_out_calibration"):
            lines += ["Inside the cohort, intervals of its own people, out of fold, had:", ""]
        lines += ["| 90 % interval | n | covers | mean width, years |", "|---|---:|---:|---:|"]
        lines += [
            f"| {row['group']} {row['value']} | {row['n']} | {row['coverage']:.0%} "
            f"| {_number(row['mean_width_years'])} |"
            for row in rows
        ]
        lines += [""]
    return lines


def _robustness(facts: Json) -> list[str]:
    groups = facts.get("robustness")
    if not groups:
        return []
    said = "Change of the predicted age when a scan is changed, and what the quality gate said"
    lines = ["## Robustness", "", said, "of the changed scans (`brainage robustness`).", ""]
    if "robustness_scans" in facts:
        lines += [describe_training_share(*facts["robustness_scans"]), ""]
    return [*lines, robustness_markdown(pd.DataFrame(groups), "group"), ""]


def _retests(facts: Json) -> list[str]:
    found = facts.get("retests")
    if not found:
        return []
    said = f"Within a person the gap varies by {found['within_sd_years']:.1f} years (standard "
    said += f"deviation, {found['n_subjects']} people scanned twice, out of fold)."
    return ["## Retests", "", said, ""]


def _volumes(facts: Json) -> list[str]:
    found = facts.get("volume_curves")
    if not found:
        return []
    held = ", ".join(f"{name} {share:.0%}" for name, share in found["coverage"].items())
    said = f"Curves of {found['n']} people; the outer ones hold, of 90 % and out of fold: {held}."
    return ["## Volumes against age", "", said, ""]


def _leakage(facts: Json) -> list[str]:
    leakage: Mapping[str, Any] = facts.get("leakage", {})
    if not leakage:
        return []
    found = ", ".join(f"{name} r = {values['r']:+.2f}" for name, values in leakage.items())
    return ["## Leakage check", "", f"Trained on permuted ages: {found}.", ""]


def _data(facts: Json) -> Json:
    cohort: Json = facts.get("cohort", {})
    counts = (f"{cohort.get(f'n_{name}', '?')} {name}" for name in ("train", "validation", "test"))
    return {
        "scans": ", ".join(counts) + "; split by subject",
        "training ages": _range(cohort.get("train_age_range_years")),
        "women, men": f"{cohort.get('n_train_female', '?')}, {cohort.get('n_train_male', '?')}",
        "sites": ", ".join(cohort.get("sites", [])) or "one, or not given",
        "cohort hash": cohort.get("cohort_hash", "?"),
    }


def _markdown_table(heading: str, rows: Json) -> list[str]:
    return [
        f"| | {heading} |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in rows.items()),
    ]


def _range(values: Any) -> str:
    return f"{values[0]:.0f} to {values[1]:.0f} years" if values else "?"


def _interval(row: Mapping[str, Any], name: str) -> str:
    return f"{_number(row.get(f'{name}_ci_low'))} to {_number(row.get(f'{name}_ci_high'))}"


def _number(value: Any, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "?"
