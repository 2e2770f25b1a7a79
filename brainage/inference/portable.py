"""Predict ages from an exported model with onnxruntime and numpy: no torch, no other package.

What `brainage export` wrote is a folder: ``model.onnx`` (every network of the ensemble in one
graph, ages and spreads out), ``constants.npz`` (the template on the network's grid; what training
scans looked like), ``model.json`` (grid, intensities, intervals), ``card.md``, and
``manifest.json`` with the SHA-256 of each. Scans come prepared: the volumes that `brainage prepare`
wrote, or arrays.

Without torch, install by ``pip install numpy onnxruntime`` and ``pip install --no-deps brainage``.
"""

import argparse
import csv
import gzip
import hashlib
import json
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brainage.errors import BrainageError, BundleError, PreparationError, ShapeError, VolumeError
from brainage.evaluation.bounds import DEFAULT_LEVEL, IntervalKind, interval_bounds
from brainage.evaluation.features import VoxelGrid
from brainage.evaluation.ood import FLAG_PERCENTILE, OutOfDistribution
from brainage.extras import require
from brainage.inference.columns import NUMBER_COLUMNS, number_columns
from brainage.prepared.sidecar import read_sidecar
from brainage.preprocessing.background import clear_background
from brainage.preprocessing.contrast import (
    LOCAL_MM,
    Priors,
    local_contrast,
    normalise_in_brain,
    tissue_levels,
)
from brainage.preprocessing.separable import resample_straight, smooth_volume
from brainage.scans.derivative_names import find_derivative
from brainage.types import BoolArray, DoubleArray, FloatArray, HalfArray, Json, Volume

FORMAT = "brainage-onnx-1"
NETWORK, CONSTANTS, ABOUT, CARD = "model.onnx", "constants.npz", "model.json", "card.md"
FILES = (NETWORK, CONSTANTS, ABOUT, CARD)
MANIFEST = "manifest.json"
BATCH = 8

_HEADER_BYTES, _FLOAT32, _UINT8 = 352, 16, 2
_MAX_VOXELS = 512**3


@dataclass(frozen=True)
class _Intervals:
    """Fitted intervals, as `ConformalInterval.to_json` gives them."""

    kind: IntervalKind
    edges_years: Sequence[float]
    scores: Sequence[Sequence[float]]

    def predict(
        self, predicted_age_years: DoubleArray, spread_years: DoubleArray, level: float
    ) -> DoubleArray:
        """Return low and high in years (N, 2)."""
        return interval_bounds(
            predicted_age_years, spread_years, self.edges_years, self.scores, self.kind, level
        )


class PortableModel:
    """A model that `brainage export` wrote.

    Parameters
    ----------
    folder : path
        What ``--output`` named.
    threads : int
        Threads of onnxruntime; 0 takes all cores.

    Attributes
    ----------
    about : dict
        Content of ``model.json``.

    Raises
    ------
    BundleError
        If a file is missing or differs from the manifest.
    MissingExtraError
        If onnxruntime is not installed.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        runtime: Any = require("onnxruntime", "onnx")
        content = _read_checked(Path(folder))
        self.about: Json = json.loads(content[ABOUT])
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = runtime.InferenceSession(
            content[NETWORK], options, providers=["CPUExecutionProvider"]
        )
        with np.load(Path(folder, CONSTANTS), allow_pickle=False) as stored:
            self._constants = dict(stored)
        self._ood = _build_ood(self._constants)
        self._intervals = _build_intervals(self.about["intervals"])

    def predict_arrays(
        self, arrays: HalfArray, level: float = DEFAULT_LEVEL
    ) -> dict[str, DoubleArray]:
        """Predict ages of prepared arrays.

        Parameters
        ----------
        arrays : numpy.ndarray (N, I, J, K)
            As the network sees them; taken in float16, as training was.
        level : float
            Share of ages that the intervals shall hold.

        Returns
        -------
        dict of numpy.ndarray of float64 (N,)
            `predicted_age_years`, `interval_low_years`, `interval_high_years`, `spread_years`,
            `ood_percentile`; NaN where the model does not know.

        Raises
        ------
        ShapeError
            If the arrays lie on another grid.
        """
        shape = tuple(self.about["preprocessing"]["shape"])
        arrays = np.asarray(arrays, np.float16)
        if arrays.ndim != 4 or arrays.shape[1:] != shape:
            problem = f"expected shape (N, {', '.join(map(str, shape))}), got {arrays.shape}."
            raise ShapeError("arrays", problem)
        parts = [np.zeros((2, 0))]
        for start in range(0, len(arrays), BATCH):
            batch = np.ascontiguousarray(arrays[start : start + BATCH, None], np.float32)
            parts.append(np.array(self._session.run(None, {"scans": batch}), np.float64))
        predicted, spread = np.concatenate(parts, axis=1)
        percentile = None if self._ood is None else self._ood.percentile(arrays)
        return number_columns(predicted, spread, percentile, self._intervals, level)

    def prepare(self, path: str | Path) -> tuple[HalfArray, Json]:
        """Bring a volume that `brainage prepare` wrote onto the network's grid.

        Returns
        -------
        array : numpy.ndarray of float16 (I, J, K)
        sidecar : dict
            What `prepare` said of the scan: `Verdict`, `Reasons` and more.

        Raises
        ------
        VolumeError
            If the volume is not what `prepare` wrote, with its mask and sidecar beside it.
        PreparationError
            If its brain has no contrast.
        """
        where = str(path)
        sidecar, mask_path = read_sidecar(path), find_derivative(path).mask
        if sidecar is None or mask_path is None or sidecar["Verdict"] == "failed":
            problem = "is no volume of `brainage prepare` with its mask and sidecar beside it."
            raise VolumeError(where, problem, "Run `brainage prepare` on the scan first.")
        wanted = self.about["preprocessing"]
        grid = np.array(wanted["affine"]), tuple(wanted["shape"])
        # As `locate.relocate_brain` and `Located.sample` do with a prepared brain.
        volume = clear_background(_read_nifti(Path(path), where), _reach_from_faces)
        finest_mm = min(1.0, wanted["spacing_mm"] / 2)
        data = resample_straight(volume, *grid, finest_mm)
        share = resample_straight(_read_nifti(mask_path, where), *grid, 0.0)
        mask = share >= 0.5
        data = np.where(mask, data / np.maximum(share, np.float32(0.5)), np.float32(0))
        return self._normalise(data, mask, where).astype(np.float16), sidecar

    def _normalise(self, data: FloatArray, mask: BoolArray, where: str) -> FloatArray:
        wanted = self.about["preprocessing"]
        if wanted["intensity"] == "brain":
            return normalise_in_brain(data, mask, where)
        smooth = partial(smooth_volume, sigma=LOCAL_MM / wanted["spacing_mm"])
        maps = self._constants["tissue_maps"].astype(np.float64)
        priors = Priors(maps, self._constants.get("inner_weight"), smooth)
        bring = {"tissue": tissue_levels, "local": local_contrast}[wanted["intensity"]]
        return bring(data, mask, priors, where)

    def predict(self, paths: Sequence[str | Path], level: float = DEFAULT_LEVEL) -> list[Json]:
        """Predict the ages of volumes that `brainage prepare` wrote.

        Returns
        -------
        list of dict
            For each path in order: `path`, the numbers of `predict_arrays`, `verdict` and
            `reasons`. A scan that cannot be used has NaN, the verdict failed, and says why.

        Raises
        ------
        ConfigError
            If the level is not between 0 and 1.
        """
        return [self._predict_one(path, level) for path in paths]

    def _predict_one(self, path: str | Path, level: float) -> Json:
        try:
            array, sidecar = self.prepare(path)
        except (VolumeError, PreparationError) as error:
            nothing = dict.fromkeys(("predicted_age_years", *NUMBER_COLUMNS), float("nan"))
            return {"path": str(path), **nothing, "verdict": "failed", "reasons": error.reason}
        numbers = self.predict_arrays(array[None], level)
        row = {name: float(values[0]) for name, values in numbers.items()}
        reasons = "; ".join(str(reason) for reason in sidecar.get("Reasons", ()))
        return {"path": str(path), **row, "verdict": sidecar["Verdict"], "reasons": reasons}


def _read_checked(folder: Path) -> dict[str, bytes]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        is_known, sums = manifest["format"] == FORMAT, dict(manifest["sha256"])
        content = {name: (folder / name).read_bytes() for name in FILES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = "holds no whole exported model."
        remedy = "Give the folder that `brainage export` wrote."
        raise BundleError(str(folder), problem, remedy) from error
    if not is_known:
        raise BundleError(str(folder), "is of another format.", "Export it by this brainage.")
    for name, data in content.items():
        if hashlib.sha256(data).hexdigest() != sums.get(name):
            problem = "differs from the manifest: it was changed or damaged after the export."
            raise BundleError(str(folder / name), problem, "Export the model anew.")
    return content


def _build_intervals(values: Json | None) -> _Intervals | None:
    if values is None:
        return None
    return _Intervals(values["kind"], values["edges_years"], values["scores"])


def ood_constants(ood: OutOfDistribution) -> dict[str, Any]:
    """Return what training scans looked like as named arrays for ``constants.npz``."""
    arrays = {f"ood_{f.name}": getattr(ood, f.name) for f in fields(ood) if f.name != "grid"}
    grid = ood.grid
    return arrays | {"ood_mask": grid.mask, "ood_grid": np.array([*grid.shape, grid.pool])}


def _build_ood(constants: Json) -> OutOfDistribution | None:
    if "ood_mask" not in constants:
        return None
    *shape, pool = (int(number) for number in constants["ood_grid"])
    grid = VoxelGrid(tuple(shape), pool, constants["ood_mask"])
    names = [f.name for f in fields(OutOfDistribution) if f.name != "grid"]
    return OutOfDistribution(grid, *(constants[f"ood_{name}"] for name in names))


def _read_nifti(path: Path, where: str) -> Volume:
    """Read a volume or mask as `prepare` writes it: float32 or uint8, axes along the world's."""
    try:
        with gzip.open(path) as stream:
            header = stream.read(_HEADER_BYTES)
            shape = struct.unpack("<8h", header[40:56])
            (kind,) = struct.unpack("<h", header[70:72])
            (offset,) = struct.unpack("<f", header[108:112])
            rows = np.frombuffer(header[280:328], "<f4").reshape(3, 4).astype(np.float64)
            size, dtype = tuple(shape[1:4]), {_FLOAT32: "<f4", _UINT8: "u1"}[kind]
            voxels = int(np.prod(size, dtype=np.int64))
            steps = np.diag(rows[:, :3])
            is_ours = shape[0] == 3 and offset == _HEADER_BYTES and 0 < voxels <= _MAX_VOXELS
            if not is_ours or (rows[:, :3] != np.diag(steps)).any() or (steps <= 0).any():
                raise ValueError("another layout")
            data = np.frombuffer(stream.read(voxels * np.dtype(dtype).itemsize), dtype)
            data = data.astype(np.float32).reshape(size, order="F")
    except (OSError, EOFError, ValueError, KeyError, struct.error) as error:
        problem = f"is not as `brainage prepare` writes volumes ({error})."
        raise VolumeError(where, problem, "Run `brainage prepare` anew.") from error
    return Volume(np.ascontiguousarray(data), np.vstack([rows, [0.0, 0.0, 0.0, 1.0]]))


def _reach_from_faces(background: BoolArray) -> BoolArray:
    """Keep the part of a background that reaches the volume's faces: numpy alone, rarely needed."""
    reached = background.copy()
    reached[1:-1, 1:-1, 1:-1] = False
    count = -1
    while count != (count := int(reached.sum())):
        for axis in range(3):
            along, free = np.moveaxis(reached, axis, 0), np.moveaxis(background, axis, 0)
            along[1:] |= along[:-1] & free[1:]
            along[:-1] |= along[1:] & free[:-1]
    return reached


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a table of predicted ages: ``python -m brainage.inference.portable MODEL SCAN...``.

    Exit code 2 if any scan failed; the others are written.
    """
    parser = argparse.ArgumentParser("brainage.inference.portable", description=main.__doc__)
    parser.add_argument("model", help="Folder that `brainage export` wrote.")
    parser.add_argument("scans", nargs="+", help="Volumes that `brainage prepare` wrote.")
    parser.add_argument("--level", type=float, default=DEFAULT_LEVEL, help="Of the intervals.")
    parser.add_argument("--threads", type=int, default=0, help="0 takes all cores.")
    chosen = parser.parse_args(arguments)
    try:
        rows = PortableModel(chosen.model, chosen.threads).predict(chosen.scans, chosen.level)
    except BrainageError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return _tell(rows)


def _tell(rows: Sequence[Json]) -> int:
    """Warn as `brainage predict` does; returns its exit code."""
    failed = sum(row["verdict"] == "failed" for row in rows)
    unlike = sum(row["ood_percentile"] >= FLAG_PERCENTILE for row in rows)
    bare = sum(np.isnan(row["interval_low_years"]) for row in rows) - failed
    for count, words in (
        (failed, "failed: their reasons are in the table"),
        (unlike, "are unlike those that the model was trained on (ood_percentile)"),
        (bare, "have no interval: too few people for this level, or none"),
    ):
        if count:
            sys.stderr.write(f"warning: {count} scans {words}.\n")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
