"""Map what makes brains look older or younger to a model, and check the maps."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from brainage.errors import BrainageError, ConfigError
from brainage.files import atomic_write_bytes, default_cache, remove_old
from brainage.inference.attribution import (
    LEGENDS,
    PASSING_SIMILARITY,
    UNITS,
    PredictedAge,
    explain_scan,
    load_reference,
    randomisation_similarity,
    region_table,
    to_density,
)
from brainage.inference.model import Model
from brainage.model.bundle import Bundle
from brainage.plotting.maps import plot_map
from brainage.prepared.arrays import prepare_cohort
from brainage.preprocessing.ledger import write_ledger
from brainage.preprocessing.mni import grid_affine
from brainage.preprocessing.regions import load_regions
from brainage.types import DEFAULT_MAP, MAP_METHODS, FloatArray, HalfArray, Json
from brainage.workflows.cohorts import ScansInput, read_scans
from brainage.workflows.console import say, scan_progress, warn
from brainage.workflows.models import load_model
from brainage.workflows.results import write_json, write_table


def explain(
    scans: ScansInput,
    output: str | Path,
    *,
    model: str | Path | Model | None = None,
    methods: Sequence[str] = (DEFAULT_MAP,),
    seed: int = 0,
    cache: Path | None = None,
) -> Json:
    """Map what makes brains look older or younger to a model, and check the maps.

    Writes a folder for each method: a map (NIfTI) and a picture of every scan, their means,
    ``scans.csv`` and ``regions.csv``; beside them ``checks.json`` and ``ledger.csv``.

    Parameters
    ----------
    scans : path, sequence of paths, Cohort or CohortReading
        T1 scans: NIfTI or MGZ files, DICOM folders or zips.
    output : path
        Folder to write.
    model : path or Model, optional
        As `brainage.load_model` takes it.
    methods : sequence of str
        Of ``integrated_gradients``, ``occlusion`` and ``smoothgrad``.
    seed : int
        Seed of the noise and of the untrained network that the maps are checked against.
    cache : pathlib.Path, optional
        Folder of prepared scans; absent: the user's cache folder.

    Returns
    -------
    dict
        For each method `unit`, `scans`, `reference_age_years` (what the model predicts of the
        template that scans are set against), `mean_outside_share` (share of the attribution
        outside the brain), `randomisation_similarity` (rank correlation with the map of an
        untrained network, of the first scan) and `randomisation_passed`. In ``scans.csv``
        `map_sum_years` is what all voxels of a map add up to.

    Raises
    ------
    ConfigError
        If a method is unknown.
    BrainageError
        If no scan can be used.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import brainage
    >>> from brainage.cohorts.phantom import write_phantom_cohort
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = Path(folder.name)
    >>> cohort = brainage.read_cohort(write_phantom_cohort(root, subjects=6, seed=0)).cohort
    >>> run = brainage.train(
    ...     cohort, root / "run", "phantom", settings={"training.epochs": 1}, tracking_uri="off"
    ... )
    >>> checks = brainage.explain(
    ...     cohort.table["path"][0],
    ...     root / "maps",
    ...     model=run.folder,
    ... )
    >>> checks["integrated_gradients"]["unit"]
    'years'
    >>> folder.cleanup()
    """
    output, chosen = Path(output), check_methods(methods)
    bundle = load_model(model).bundle
    table, rejected, _ = read_scans(scans)
    cache = default_cache() if cache is None else Path(cache)
    settings = bundle.config.preprocessing
    prepared = prepare_cohort(list(table["path"]), list(table["scan_id"]), settings, cache)
    entries = [*rejected, *prepared.entries]
    write_ledger(entries, output / "ledger.csv")
    for entry in entries:
        if entry.verdict == "failed":
            warn(f"{entry.scan_id}: {entry.reason}")
    if not len(prepared.kept):
        raise BrainageError("explain", "no scan can be used.", f"See {output / 'ledger.csv'}.")
    used = table.iloc[prepared.kept].reset_index(drop=True)
    checks = {
        method: _explain_all(bundle, prepared.arrays, used, output / method, method, seed)
        for method in chosen
    }
    write_json(checks, output / "checks.json")
    say(f"written to {output}")
    return checks


def check_methods(methods: Sequence[str]) -> list[str]:
    """Check methods of attribution; each is kept once.

    Raises
    ------
    ConfigError
        If one is unknown or none is given.
    """
    names = list(dict.fromkeys(methods))
    unknown = [name for name in names if name not in MAP_METHODS]
    if unknown or not names:
        known = ", ".join(MAP_METHODS)
        raise ConfigError("--method", f"unknown {', '.join(unknown)!r}.", f"Known: {known}.")
    return names


def _explain_all(
    bundle: Bundle, arrays: HalfArray, table: pd.DataFrame, folder: Path, method: str, seed: int
) -> Json:
    predict, maps, rows = PredictedAge(bundle), [], []
    for old in folder.glob("[0-9][0-9][0-9][0-9]*.*"):  # of other scans, or by another model
        remove_old(old)
    reference = load_reference(bundle.config.preprocessing)
    with scan_progress(f"explaining by {method}") as progress:
        for number, array in enumerate(arrays):
            result = explain_scan(predict, array, reference, method, seed)
            maps.append(result.attribution)
            stem = f"{number:04d}"
            rows.append(
                {
                    "scan_id": table["scan_id"][number],
                    "map": f"{stem}.nii.gz",
                    "predicted_age_years": result.predicted_age_years,
                    "reference_age_years": result.reference_age_years,
                    "map_sum_years": float(result.attribution.sum(dtype=np.float64)),
                    "outside_share": result.outside_share,
                }
            )
            predicted = f"predicted {result.predicted_age_years:.1f} years"
            title = f"{table['scan_id'][number]}, {predicted}"
            _write_map(bundle, result.attribution, array, folder / stem, title, method)
            progress(number + 1, len(arrays))
    write_table(pd.DataFrame(rows), folder / "scans.csv")
    mean_map = np.mean(maps, axis=0).astype(np.float32)
    mean_scan = arrays.astype(np.float32).mean(axis=0).astype(np.float16)
    _write_map(bundle, mean_map, mean_scan, folder / "mean", f"mean of {len(arrays)}", method)
    regions = load_regions(bundle.config.preprocessing)
    write_table(region_table(maps, regions.labels, regions.names), folder / "regions.csv")
    similarity = randomisation_similarity(bundle, arrays[0], method, seed)
    passed = abs(similarity) < PASSING_SIMILARITY
    if not passed:
        warn(
            f"{method}: the map of an untrained network is alike (r {similarity:.2f}): "
            "it shows the scan more than what was learned."
        )
    return {
        "unit": UNITS[method],
        "scans": len(arrays),
        "reference_age_years": rows[0]["reference_age_years"],
        "mean_outside_share": float(np.mean([row["outside_share"] for row in rows])),
        "randomisation_similarity": similarity,
        "randomisation_passed": bool(passed),
    }


def _write_map(
    bundle: Bundle, attribution: FloatArray, array: HalfArray, stem: Path, title: str, method: str
) -> None:
    settings = bundle.config.preprocessing
    affine = grid_affine(settings)
    image = nib.Nifti1Image(attribution, affine)
    atomic_write_bytes(stem.with_suffix(".nii.gz"), _compressed(image))
    density, unit = to_density(attribution, method, settings.spacing_mm)
    picture = stem.with_suffix(".png")
    plot_map(density, array, picture, title=title, unit=unit, legend=LEGENDS[method])


def _compressed(image: nib.Nifti1Image) -> bytes:
    import gzip

    # No time stamp: the same map gives the same bytes.
    return gzip.compress(image.to_bytes(), mtime=0)
