"""Healthy models, checkpoints and caches, and their readers."""

import hashlib
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.ood import fit_ood
from brainage.evaluation.reference import make_reference, match_percentile
from brainage.files import sha256_bytes
from brainage.model.build import build_model
from brainage.model.bundle import load_bundle, save_bundle, save_ensemble
from brainage.prepared.arrays import PreparedScan, PreparedStore
from brainage.prepared.derivatives import IMAGE, RECORD, DerivativeStore, ScanRecord
from brainage.prepared.source import load_placement, read_sidecar, save_placement
from brainage.preprocessing.locate import Placement
from brainage.preprocessing.template import TEMPLATE_SHA256
from brainage.training.callbacks import EpochRecord
from brainage.training.trainer import Trainer
from brainage.types import Volume
from tests.small import make_config
from tools.fuzz.target import Files, Target, files_below, put, read_all

KEY = "ab" * 32
SHAPE = (12, 12, 12)


def _facts() -> dict[str, object]:
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, 60)
    table = pd.DataFrame({"age_years": age, "predicted_age_years": age + rng.normal(0, 5, 60)})
    table["subject_id"] = [f"s{number}" for number in range(60)]
    calibration = ConformalInterval().fit(table["predicted_age_years"], age, np.full(60, 5.0))
    return {
        "metrics": {"mae_years": 5.0},
        "calibration": calibration.to_json(),
        "reference": make_reference(table, "held_out").to_json(),
    }


@cache
def bundle_seed() -> dict[str, bytes]:
    """A small bundle with calibration, reference and out-of-distribution score."""
    config = make_config("cnn3d_light", blocks=2, workers_per_block=2)
    arrays = np.random.default_rng(0).random((6, *config.input_shape[1:])).astype(np.float16)
    ood = fit_ood(arrays, [str(number) for number in range(6)])
    with TemporaryDirectory() as folder:
        save_bundle(Path(folder), build_model(config), config, _facts(), ood)
        return files_below(Path(folder))


def ensemble_seeds() -> list[dict[str, bytes]]:
    """Two members."""
    with TemporaryDirectory() as folder:
        for name in ("member-0", "member-1"):
            _write(Path(folder) / name, bundle_seed())
        save_ensemble(Path(folder), ["member-0", "member-1"], _facts())
        return [files_below(Path(folder))]


def _write(folder: Path, files: Files) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def read_bundle(folder: Path) -> None:
    """Load a bundle and ask it all that `predict` and `report` ask."""
    bundle = load_bundle(folder)
    array = np.ones((1, *bundle.config.input_shape[1:]), np.float16)

    def intervals() -> object:
        known = bundle.calibration
        return None if known is None else known.predict([50.0], [5.0])

    def percentile() -> object:
        known = bundle.reference
        return None if known is None else match_percentile(known, 50.0, 1.0)

    def likeness() -> object:
        return None if bundle.ood is None else bundle.ood.percentile(array)

    read_all(intervals, percentile, likeness, lambda: bundle.predict(array))


def sign(files: dict[str, bytes]) -> dict[str, bytes]:
    """Write right hashes into a bundle's manifest, if it is still readable."""
    try:
        manifest = json.loads(files["manifest.json"])
        manifest["sha256"] = {name: sha256_bytes(files[name]) for name in manifest["sha256"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return files
    return files | {"manifest.json": json.dumps(manifest).encode()}


def _trainer(folder: Path) -> Trainer:
    config = make_config("cnn3d_light", blocks=2, workers_per_block=2)
    return Trainer(
        build_model(config),
        config,
        names=["a"],
        shuffle=torch.Generator(),
        checkpoint_path=folder / "checkpoint.safetensors",
        run_hash="hash",
    )


def checkpoint_seeds() -> list[dict[str, bytes]]:
    """State after one step."""
    with TemporaryDirectory() as folder:
        trainer = _trainer(Path(folder))
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        trainer.best_epoch = 1
        trainer.best = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        trainer.history.append(
            EpochRecord(1, 1.0, 1.0, "mae_years", 5.0, (5.0, 5.0), 1.0, 1.0, 1.0)
        )
        trainer._save()
        return [files_below(Path(folder))]


def _seal(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def reseal(files: dict[str, bytes]) -> dict[str, bytes]:
    """Put the right digest at the end of a cached file."""
    return {name: _seal(content[:-32]) for name, content in files.items()}


def prepared_seeds() -> list[dict[str, bytes]]:
    """A scan in the store."""
    scan = PreparedScan(np.ones(SHAPE, np.float16), "raw head", "flagged", ("a",), {"noise": 1.0})
    with TemporaryDirectory() as folder:
        PreparedStore(Path(folder)).save(KEY, scan)
        return [{"stored": next(iter(files_below(Path(folder)).values()))}]


def read_prepared(folder: Path) -> object:
    """Load the stored scan, as training does."""
    with TemporaryDirectory() as private:
        store = PreparedStore(Path(private))
        put({store.path(KEY).name: (folder / "stored").read_bytes()}, store.path(KEY).parent)
        return store.load(KEY, SHAPE)


def placement_seeds() -> list[dict[str, bytes]]:
    """Where a brain lies, with a bias field."""
    mask, affine = np.zeros(SHAPE, np.float32), np.diag([2.0, 2, 2, 1])
    mask[3:8, 3:8, 3:8] = 1
    bias = Volume(np.ones((4, 4, 4), np.float32), affine)
    placement = Placement("raw head", Volume(mask, affine), np.eye(4), bias)
    with TemporaryDirectory() as folder:
        save_placement(Path(folder) / "stored", placement, {"noise": 1.0})
        return [files_below(Path(folder))]


def derivative_seeds() -> list[dict[str, bytes]]:
    """The record of a prepared scan."""
    image = b"image"
    record = ScanRecord(KEY, "prepare", "ok", "", "", 30.0, {}, {IMAGE: sha256_bytes(image)})
    with TemporaryDirectory() as folder:
        DerivativeStore(Path(folder)).save(record, {IMAGE: image})
        stored = DerivativeStore(Path(folder)).path(KEY)
        return [files_below(stored)]


def read_derivative(folder: Path) -> object:
    """Load the record, as a resumed `prepare` does."""
    with TemporaryDirectory() as private:
        store = DerivativeStore(Path(private))
        put(files_below(folder), store.path(KEY))
        return store.load(KEY)


def sidecar_seeds() -> list[dict[str, bytes]]:
    """A volume that `prepare` wrote, its mask and the sidecar that vouches for them."""
    stem = "sub-1_space-MNI_desc-preproc_T1w"
    image, mask = b"image", b"mask"
    sidecar = {
        "TemplateSHA256": TEMPLATE_SHA256,
        "ImageSHA256": sha256_bytes(image),
        "MaskSHA256": sha256_bytes(mask),
        "Verdict": "ok",
        "Measures": {"noise": 0.1, "template_correlation": 0.5},
        "Reasons": [],
    }
    return [
        {
            f"{stem}.nii.gz": image,
            stem.replace("preproc_T1w", "brain_mask") + ".nii.gz": mask,
            f"{stem}.json": json.dumps(sidecar).encode(),
        }
    ]


def read_sidecar_beside(folder: Path) -> object:
    """What a prepared volume's sidecar tells."""
    return read_sidecar(folder / "sub-1_space-MNI_desc-preproc_T1w.nii.gz")


MODELS: dict[str, Target] = {
    "bundle": Target(lambda: [bundle_seed()], read_bundle),
    "signed_bundle": Target(lambda: [bundle_seed()], read_bundle, sign, guided="bundle.json"),
    "ensemble": Target(ensemble_seeds, read_bundle),
    "checkpoint": Target(
        checkpoint_seeds,
        lambda folder: _trainer(folder)._restore(),
        guided="checkpoint.safetensors",
    ),
    "prepared": Target(prepared_seeds, read_prepared),
    "resealed_prepared": Target(prepared_seeds, read_prepared, reseal, guided="stored"),
    "placement": Target(placement_seeds, lambda folder: load_placement(folder / "stored")),
    "resealed_placement": Target(
        placement_seeds, lambda folder: load_placement(folder / "stored"), reseal
    ),
    "derivative": Target(derivative_seeds, read_derivative, guided=RECORD),
    "sidecar": Target(
        sidecar_seeds, read_sidecar_beside, guided="sub-1_space-MNI_desc-preproc_T1w.json"
    ),
}
