"""`brainage export`: a trained model as one ONNX file, for computers without torch."""

import io
import json
from pathlib import Path

import numpy as np

from brainage.errors import BundleError, TrainingError
from brainage.extras import check_extra
from brainage.files import atomic_write_bytes, sha256_bytes
from brainage.inference.onnx_graph import EXTRA, build_onnx
from brainage.inference.portable import (
    ABOUT,
    CARD,
    CONSTANTS,
    FORMAT,
    MANIFEST,
    NETWORK,
    PortableModel,
    ood_constants,
)
from brainage.inference.predict import check_ages
from brainage.model.bundle import Bundle
from brainage.model.card import build_card
from brainage.preprocessing.intensity import load_priors
from brainage.preprocessing.mni import grid_affine
from brainage.types import HalfArray, Json
from brainage.workflows.console import say
from brainage.workflows.models import load_model

TOLERANCE_YEARS = 0.01
_CHECKED_SCANS = 4
_FACTS = ("brainage_version", "method", "network", "members", "parameters", "model_age_range_years")


def export(model: str | Path | None, output: Path) -> None:
    """Write a model as ONNX with all that a predicted age needs, and check that ages are equal.

    Parameters
    ----------
    model : str or pathlib.Path, optional
        As in `brainage.load_model`.
    output : pathlib.Path
        New folder, for `brainage.inference.portable.PortableModel`.

    Raises
    ------
    TrainingError
        If the output already holds a model.
    BundleError
        If the model tells no ages, or onnxruntime gives others than torch.
    MissingExtraError
        If ``pip install 'brainage[onnx]'`` is missing.
    """
    check_extra("onnxruntime", EXTRA)
    if (output / MANIFEST).exists():
        raise TrainingError(str(output), "already holds a model.", "Choose another --output.")
    bundle = load_model(model).bundle
    check_ages(bundle.config)
    content = {
        NETWORK: build_onnx(bundle),
        CONSTANTS: _pack_constants(bundle),
        ABOUT: (json.dumps(_describe(bundle), indent=2) + "\n").encode(),
        CARD: build_card(bundle.facts).encode(),
    }
    for name, data in content.items():
        atomic_write_bytes(output / name, data)
    sums = {name: sha256_bytes(data) for name, data in content.items()}
    manifest = json.dumps({"format": FORMAT, "sha256": sums}, indent=2) + "\n"
    atomic_write_bytes(output / MANIFEST, manifest.encode())
    difference = _compare(bundle, PortableModel(output))
    if not difference <= TOLERANCE_YEARS:
        (output / MANIFEST).unlink()
        problem = f"onnxruntime gives ages that differ by {difference:.3g} years."
        raise BundleError(str(output), problem, "Report the network and your versions.")
    megabytes = sum(len(data) for data in content.values()) / 1e6
    say(f"{megabytes:.1f} MB; ages equal to {difference:.1g} years; written to {output}")


def _describe(bundle: Bundle) -> Json:
    settings, facts = bundle.config.preprocessing, bundle.facts
    return {
        **{name: facts[name] for name in _FACTS if name in facts},
        "weights_sha256": bundle.weights_sha256,
        "preprocessing": {
            "spacing_mm": settings.spacing_mm,
            "shape": list(settings.shape),
            "affine": grid_affine(settings).tolist(),
            "intensity": settings.intensity,
        },
        "intervals": None if bundle.intervals is None else bundle.intervals.to_json(),
    }


def _pack_constants(bundle: Bundle) -> bytes:
    """Template on the network's grid where intensities need it, and the training scans' looks."""
    settings = bundle.config.preprocessing
    arrays = {} if bundle.ood is None else ood_constants(bundle.ood)
    if settings.intensity != "brain":
        priors = load_priors(settings)
        arrays["tissue_maps"] = priors.maps.astype(np.float32)
        if priors.inner is not None:
            arrays["inner_weight"] = priors.inner
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _compare(bundle: Bundle, portable: PortableModel) -> float:
    """Largest difference of predicted ages, in years, on smooth noise and an empty scan."""
    found = portable.predict_arrays(scans := _noise(bundle))["predicted_age_years"]
    return float(np.abs(found - bundle.predict(scans).predicted_age_years).max())


def _noise(bundle: Bundle) -> HalfArray:
    rng = np.random.default_rng(0)
    scans = rng.normal(size=(_CHECKED_SCANS, *bundle.config.preprocessing.shape))
    scans *= np.arange(_CHECKED_SCANS)[:, None, None, None]
    return scans.astype(np.float16)
