"""Know the people that a model was trained, validated or calibrated on, by hashes of their ids."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from brainage.cohorts.splits import SPLIT_HASHES, hash_ids
from brainage.model.bundle import Bundle
from brainage.types import BoolArray
from brainage.workflows.console import warn

LEARNED, CALIBRATION = ("train", "validation"), "calibration"


def rows_in_training(
    bundle: Bundle, table: pd.DataFrame, parts: Sequence[str] = LEARNED
) -> BoolArray:
    """Find scans of people whom the model was trained or validated on, or who are in other parts.

    Parameters
    ----------
    parts : sequence of str
        Also `CALIBRATION`: the controls of `brainage calibrate`.
    """
    seen = np.zeros(len(table), dtype=bool)
    for key, column in SPLIT_HASHES.items():
        hashes = bundle.facts.get(key, {})
        learned = {identity for part in parts for identity in hashes.get(part, [])}
        seen |= [identity in learned for identity in hash_ids(table[column])]
    # Another scan of the same person is no test; models from before know the ids of scans alone.
    same: BoolArray = table["subject_id"].isin(table.loc[seen, "subject_id"]).to_numpy()
    return same


def unseen_rows(bundle: Bundle, table: pd.DataFrame, parts: Sequence[str] = LEARNED) -> BoolArray:
    """Find scans of people who are not in these parts; warn of others."""
    seen = rows_in_training(bundle, table, parts)
    if seen.any():
        where = f"training or {CALIBRATION}" if CALIBRATION in parts else "training"
        warn(f"{int(seen.sum())} of {len(table)} scans are of people in {where}: left out.")
    return ~seen


def keep_people(bundle: Bundle, people: pd.DataFrame, part: str) -> Bundle:
    """List people among those of a part, so that no one tests the model on them.

    An earlier calibration is replaced by this one.
    """
    facts = dict(bundle.facts)
    for key, column in SPLIT_HASHES.items():
        hashes = facts.get(key, {})
        earlier = [] if part == CALIBRATION else hashes.get(part, [])
        facts[key] = hashes | {part: [*earlier, *hash_ids(people[column])]}
    return replace(bundle, facts=facts)
