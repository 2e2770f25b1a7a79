"""One training run: a method, a seed and a split of prepared scans; the same for all commands."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from brainage.config import Config, dump_config
from brainage.data.cohort import Cohort
from brainage.data.dataset import build_dataset, build_loader
from brainage.data.splits import Split, check_disjoint, hash_ids
from brainage.data.transforms import build_augmentation
from brainage.files import sha256_bytes
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.rules import BLOCK_LOCAL
from brainage.model import build_model, build_target, resolve_target
from brainage.prediction import AgeDistribution, predict_distribution
from brainage.training.callbacks import Callback, EpochRecord
from brainage.training.trainer import Trainer
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
        True for phantoms.
    """

    cohort: Cohort
    arrays: HalfArray
    synthetic: bool = False

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
    *,
    device: torch.device,
    callbacks: Sequence[Callback] = (),
    checkpoint_path: Path | None = None,
    resume: bool = False,
) -> TrainedRun:
    """Train on the split's training scans, watch its validation scans, predict its test scans.

    Nothing is learned from test scans; the age range comes from training scans alone.
    """
    check_disjoint(prepared.cohort, split)
    config = resolve_target(config, list(prepared.ages[split.train]))
    shuffle = torch.Generator()
    trainer = Trainer(
        build_model(config),
        config,
        names=[prepared.scan_ids[i] for i in split.train],
        shuffle=shuffle,
        device=device,
        callbacks=callbacks,
        checkpoint_path=checkpoint_path,
        run_hash=run_hash(prepared, split, config),
    )
    augmentation = build_augmentation(config.augmentation, config.preprocessing.spacing_mm)
    batch_size, processes = config.training.batch_size, config.training.loader_processes
    train_set = build_dataset(
        _take(prepared.arrays, split.train),
        prepared.ages[split.train],
        trainer.names,
        augmentation,
    )
    validation_set = build_dataset(
        _take(prepared.arrays, split.validation),
        prepared.ages[split.validation],
        [prepared.scan_ids[i] for i in split.validation],
    )
    result = trainer.fit(
        build_loader(train_set, batch_size, True, shuffle, processes),
        build_loader(validation_set, batch_size, False, torch.Generator()),
        resume=resume,
    )

    def predict_part(part: NDArray[np.int64]) -> pd.DataFrame:
        predicted = predict_distribution(
            trainer.model,
            build_target(config.target),
            _take(prepared.arrays, part),
            batch_size,
            config.inference.average_heads,
            config.inference.mirror,
        )
        return build_prediction_table(prepared.cohort.select(part).table, predicted)

    return TrainedRun(
        model=trainer.model,
        config=config,
        history=result.history,
        kept_epoch=result.kept_epoch,
        predictions=predict_part(split.test),
        validation=predict_part(split.validation),
        seconds_per_epoch=float(np.median([record.epoch_seconds for record in result.history])),
        peak_memory_mb=max(record.peak_memory_mb for record in result.history),
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
    """Facts about the training data for the bundle: counts, range and hashes; no id, no age."""
    ages, ids = prepared.ages, prepared.scan_ids
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    sexes = prepared.cohort.table["sex"].iloc[split.train]
    return {
        "cohort": {
            "synthetic": prepared.synthetic,
            "cohort_hash": prepared.cohort.content_hash(),
            **{f"n_{name}": len(indices) for name, indices in parts.items()},
            "train_age_range_years": [
                float(ages[split.train].min()),
                float(ages[split.train].max()),
            ],
            "n_train_female": int((sexes == "F").sum()),
            "n_train_male": int((sexes == "M").sum()),
            "sites": sorted({name for name in prepared.cohort.table["site"] if name}),
        },
        "split_id_hashes": {
            name: hash_ids([ids[i] for i in indices]) for name, indices in parts.items()
        },
    }


def run_hash(prepared: PreparedCohort, split: Split, config: Config) -> str:
    """Identity of a run: its settings, scans, ages and split."""
    parts = [
        dump_config(config),
        json.dumps(prepared.scan_ids),
        prepared.ages.tobytes().hex(),
        *(indices.tobytes().hex() for indices in (split.train, split.validation, split.test)),
        *(sha256_bytes(array.tobytes()) for array in prepared.arrays),
    ]
    return sha256_bytes("\n".join(parts).encode("utf-8", "surrogateescape"))


def schedule_of(method: str) -> str:
    """Name of the order in which a method does its work."""
    return "sequential" if method in BLOCK_LOCAL else "end_to_end"


def _take(arrays: HalfArray, indices: NDArray[np.int64]) -> HalfArray:
    return arrays[indices]
