"""One training run: a method, a seed and a split of prepared scans; the same for all commands."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainage.cohorts.cohort import Cohort
from brainage.cohorts.splits import SPLIT_HASHES, Split, check_disjoint, hash_ids
from brainage.config import Config, LearningConfig, dump_config
from brainage.errors import ConfigError
from brainage.evaluation.normative import AGE_CELL_YEARS
from brainage.files import sha256_bytes
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.rules import METHOD_RULES
from brainage.model.build import build_target, resolve_target
from brainage.model.distribution import AgeDistribution, predict_distribution
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.options import IN_MEMORY, TrainOptions
from brainage.training.processes import FitTask, fit
from brainage.training.state import Loader
from brainage.types import HalfArray, Json


@dataclass(frozen=True)
class PreparedCohort:
    """Scans ready to be learned: row n of the table belongs to array n.

    Attributes
    ----------
    cohort : Cohort
        Scans that could be prepared.
    arrays : numpy.ndarray of float16 (N, I, J, K)
        Their prepared arrays.
    synthetic : bool
        True where phantoms are among them.
    copies : numpy.ndarray of float16 (N, copies, I, J, K), optional
        The same scans as strangers might send them, for training alone.
    """

    cohort: Cohort
    arrays: HalfArray
    synthetic: bool = False
    copies: HalfArray | None = None

    @property
    def ages(self) -> NDArray[np.float64]:
        """Ages at scan in years (N,)."""
        return self.cohort.table["age_years"].to_numpy(np.float64)

    @property
    def scan_ids(self) -> list[str]:
        """Names of the scans."""
        return list(self.cohort.table["scan_id"])


@dataclass(frozen=True)
class TrainedRun:
    """Result of `train_run`.

    Attributes
    ----------
    model : BlockStack
        With the kept weights.
    config : Config
        With the age range resolved.
    predictions : pandas.DataFrame
        Test scans: scan_id, subject_id, sex, site, age_years, predicted_age_years,
        brain_age_gap_years, spread_years.
    validation : pandas.DataFrame
        The same of the validation scans, which chose the epoch at most.
    seconds_per_epoch, peak_memory_mb : float
        Median training time of an epoch, and the largest memory of the run.
    """

    model: BlockStack
    config: Config
    history: tuple[EpochRecord, ...]
    kept_epoch: int
    predictions: pd.DataFrame
    validation: pd.DataFrame
    seconds_per_epoch: float
    peak_memory_mb: float


def train_run(
    prepared: PreparedCohort,
    split: Split,
    config: Config,
    options: TrainOptions = IN_MEMORY,
    callbacks: Sequence[Callback] = (),
) -> TrainedRun:
    """Train on the split's training scans, watch its validation scans, predict its test scans.

    Nothing is learned from test scans; the age range comes from training scans alone. On several
    processes (`layout`) the pipelined schedule gives the same bits on a CPU.

    Raises
    ------
    ConfigError
        If the settings want copies as strangers might send them and the scans have none.
    TrainingError
        As `Trainer.fit` does.
    """
    check_disjoint(prepared.cohort, split)
    if (wanted := config.augmentation.stranger_copies) and prepared.copies is None:
        problem = f"is {wanted}, and no copies were prepared."
        raise ConfigError("augmentation.stranger_copies", problem, "Set it to 0 here.")
    config = resolve_target(config, list(prepared.ages[split.train]))
    names = tuple(prepared.scan_ids[i] for i in split.train)
    task = FitTask(
        config,
        names,
        partial(
            build_loaders,
            torch.from_numpy(_take_with_copies(prepared, split.train)),
            prepared.ages[split.train],
            torch.from_numpy(_take(prepared.arrays, split.validation)),
            prepared.ages[split.validation],
            config,
        ),
        run_hash(prepared, split, config),
        options,
    )
    model, result = fit(task, callbacks)

    def predict_part(part: NDArray[np.int64]) -> pd.DataFrame:
        predicted = predict_distribution(
            model,
            build_target(config.target),
            _take(prepared.arrays, part),
            config.training.batch_size,
            config.inference.average_heads,
            config.inference.mirror,
            config.inference.point,
        )
        return build_prediction_table(prepared.cohort.select(part).table, predicted)

    return TrainedRun(
        model=model,
        config=config,
        history=result.history,
        kept_epoch=result.kept_epoch,
        predictions=predict_part(split.test),
        validation=predict_part(split.validation),
        seconds_per_epoch=float(np.median([record.epoch_seconds for record in result.history])),
        peak_memory_mb=max(record.peak_memory_mb for record in result.history),
    )


def build_loaders(
    train_scans: Tensor,
    train_ages: NDArray[np.float64],
    validation_scans: Tensor,
    validation_ages: NDArray[np.float64],
    config: Config,
    shuffle: torch.Generator | None,
    reads_inputs: bool = True,
) -> tuple[Loader, Loader]:
    """Training and validation batches of prepared scans; tensors, because processes share them.

    Parameters
    ----------
    train_scans, validation_scans : torch.Tensor of float16 (N, I, J, K) or (N, copies, I, J, K)
    train_ages, validation_ages : numpy.ndarray (N,)
        Years.
    shuffle : torch.Generator, optional
        Orders the training scans; absent: their own order.
    reads_inputs : bool
        Without it a batch's inputs are one voxel each: its labels and order are all that counts.
    """
    # MONAI takes seconds to import.
    from brainage.loading.scans import build_scan_loader

    corner = slice(None) if reads_inputs else slice(1)
    train_arrays = train_scans[..., corner, corner, corner].numpy()
    validation_arrays = validation_scans[..., corner, corner, corner].numpy()
    return (
        build_scan_loader(train_arrays, train_ages, config, shuffle, augments=reads_inputs),
        build_scan_loader(validation_arrays, validation_ages, config),
    )


def build_prediction_table(table: pd.DataFrame, predicted: AgeDistribution) -> pd.DataFrame:
    """Predictions beside what is known of the scans; the gap is predicted minus chronological."""
    ages = table["age_years"].to_numpy(np.float64)
    return pd.DataFrame(
        {
            "scan_id": table["scan_id"].to_numpy(),
            "age_years": ages,
            "predicted_age_years": predicted.predicted_age_years,
            "brain_age_gap_years": predicted.predicted_age_years - ages,
            "spread_years": predicted.spread_years,
            "subject_id": table["subject_id"].to_numpy(),
            "sex": table["sex"].to_numpy(),
            "site": table["site"].to_numpy(),
        }
    )


def describe_cohort(prepared: PreparedCohort, split: Split) -> Json:
    """Facts about the training data for the bundle: counts, range and hashes; no id, no age.

    The range is widened to steps of `AGE_CELL_YEARS`: its ends would be the ages of two people.
    """
    ages, table = prepared.ages, prepared.cohort.table
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    sexes = prepared.cohort.table["sex"].iloc[split.train]
    return {
        "cohort": {
            "synthetic": prepared.synthetic,
            "cohort_hash": prepared.cohort.content_hash(),
            **{f"n_{name}": len(indices) for name, indices in parts.items()},
            "train_age_range_years": [
                float(AGE_CELL_YEARS * np.floor(ages[split.train].min() / AGE_CELL_YEARS)),
                float(AGE_CELL_YEARS * np.ceil(ages[split.train].max() / AGE_CELL_YEARS)),
            ],
            "n_train_female": int((sexes == "F").sum()),
            "n_train_male": int((sexes == "M").sum()),
            "sites": sorted({name for name in prepared.cohort.table["site"] if name}),
        },
        # Of scans and, since another scan of a person who trained is no test either, of people.
        **{
            key: {name: hash_ids(table[column].iloc[rows]) for name, rows in parts.items()}
            for key, column in SPLIT_HASHES.items()
        },
    }


def run_hash(prepared: PreparedCohort, split: Split, config: Config) -> str:
    """Identity of a run: its settings, scans, ages and split."""
    copies = prepared.copies
    parts = [
        dump_config(config),
        json.dumps(prepared.scan_ids),
        prepared.ages.tobytes().hex(),
        *(indices.tobytes().hex() for indices in (split.train, split.validation, split.test)),
        *(sha256_bytes(array.tobytes()) for array in prepared.arrays),
        *(sha256_bytes(array.tobytes()) for array in (() if copies is None else copies)),
    ]
    return sha256_bytes("\n".join(parts).encode("utf-8", "surrogateescape"))


def schedule_of(learning: LearningConfig) -> str:
    """Name of the order in which blocks do their work."""
    return learning.schedule if METHOD_RULES[learning.method].is_local else "end_to_end"


def _take(arrays: HalfArray, indices: NDArray[np.int64]) -> HalfArray:
    return arrays[indices]


def _take_with_copies(prepared: PreparedCohort, indices: NDArray[np.int64]) -> HalfArray:
    scans = prepared.arrays[indices]
    if prepared.copies is None:
        return scans
    return np.concatenate([scans[:, None], prepared.copies[indices]], axis=1)
