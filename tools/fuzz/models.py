"""Healthy models, checkpoints and caches, and their readers."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from brainage.config import PreprocessingConfig
from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.normative import make_reference, match_percentile
from brainage.evaluation.ood import fit_ood
from brainage.files import sha256_bytes
from brainage.model.build import build_model
from brainage.model.bundle import load_bundle, save_bundle, save_ensemble
from brainage.prepared.arrays import ARRAY, PreparedScan, load_scan, pack_scan
from brainage.prepared.derivatives import IMAGE, ScanRecord
from brainage.prepared.placement import pack_placement, unpack_placement
from brainage.prepared.sidecar import read_sidecar
from brainage.prepared.store import RECORD, Kind, PreparedStore
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


def read_checkpoint(folder: Path) -> None:
    """Take up a training from its checkpoint."""
    trainer = _trainer(folder)
    trainer.schedule.restore(trainer.state)


def checkpoint_seeds() -> list[dict[str, bytes]]:
    """State after one step."""
    with TemporaryDirectory() as folder:
        state = _trainer(Path(folder)).state
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        record = EpochRecord(1, 1.0, 1.0, "mae_years", 5.0, (5.0, 5.0), 1.0, 1.0, 1.0)
        state.add(record, is_best=True)
        state.save(state.tensors())
        return [files_below(Path(folder))]


def reseal(files: dict[str, bytes]) -> dict[str, bytes]:
    """Put the right hashes into the record of a stored entry, and the right digest at its end."""
    payload = files.get(RECORD, b"")[:-32]
    try:
        record = json.loads(payload)
        record["files"] = {name: sha256_bytes(files[name]) for name in record["files"]}
        payload = json.dumps(record).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # the record itself is what was damaged
    return files | {RECORD: payload + hashlib.sha256(payload).digest()}


def _store_entry(kind: Kind, about: dict[str, object], files: Files) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        store = PreparedStore(Path(folder))
        store.save(kind, KEY, about, files)
        return files_below(store.path(kind, KEY))


def _store_of(kind: Kind, folder: Path, private: str) -> PreparedStore:
    """Put an entry's files into a store of their own."""
    store = PreparedStore(Path(private), lambda _: None)
    put(files_below(folder), store.path(kind, KEY))
    return store


def prepared_seeds() -> list[dict[str, bytes]]:
    """Build a scan in the store."""
    scan = PreparedScan(np.ones(SHAPE, np.float16), "raw head", "flagged", ("a",), {"noise": 1.0})
    return [_store_entry("array", *pack_scan(scan))]


def read_prepared(folder: Path) -> object:
    """Load the stored scan, as training does."""
    with TemporaryDirectory() as private:
        settings = PreprocessingConfig(shape=SHAPE)
        return load_scan(_store_of("array", folder, private), KEY, settings)


def placement_seeds() -> list[dict[str, bytes]]:
    """Build a placement in the store, with a bias field."""
    mask, affine = np.zeros(SHAPE, np.float32), np.diag([2.0, 2, 2, 1])
    mask[3:8, 3:8, 3:8] = 1
    bias = Volume(np.ones((4, 4, 4), np.float32), affine)
    placement = Placement("raw head", Volume(mask, affine), np.eye(4), bias)
    return [_store_entry("placement", *pack_placement(placement, {"noise": 1.0}))]


def read_placement(folder: Path) -> object:
    """Load the stored placement, as another grid does."""
    with TemporaryDirectory() as private:
        store = _store_of("placement", folder, private)
        return store.load("placement", KEY, unpack_placement)


def derivative_seeds() -> list[dict[str, bytes]]:
    """Build the record of a prepared scan."""
    image = b"image"
    record = ScanRecord(KEY, "prepare", "ok", "", "", 30.0, {}, {IMAGE: sha256_bytes(image)})
    return [_store_entry("derivative", asdict(record), {IMAGE: image})]


def read_derivative(folder: Path) -> object:
    """Load the record, as a resumed `prepare` does."""
    with TemporaryDirectory() as private:
        store = _store_of("derivative", folder, private)
        return store.load("derivative", KEY, lambda about, _: ScanRecord(**about))


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
        read_checkpoint,
        guided="checkpoint.safetensors",
    ),
    "prepared": Target(prepared_seeds, read_prepared),
    "resealed_prepared": Target(prepared_seeds, read_prepared, reseal, guided=ARRAY),
    "placement": Target(placement_seeds, read_placement),
    "resealed_placement": Target(placement_seeds, read_placement, reseal),
    "derivative": Target(derivative_seeds, read_derivative, guided=RECORD),
    "resealed_derivative": Target(derivative_seeds, read_derivative, reseal),
    "sidecar": Target(
        sidecar_seeds, read_sidecar_beside, guided="sub-1_space-MNI_desc-preproc_T1w.json"
    ),
}
