"""Synthetic cohorts: brains that age, in a real folder structure, for demos and tests.

Every phantom is built from the tissue maps of the MNI ICBM152 template (Fonov et al. 2011,
doi:10.1016/j.neuroimage.2010.07.033) that nilearn carries offline. With age the ventricles grow,
the sulci widen and the grey matter shrinks and darkens, as it does in people (Fjell & Walhovd
2010, doi:10.1515/REVNEURO.2010.21.3.187); the amounts are invented. No phantom is a person.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn.datasets import (
    load_mni152_brain_mask,
    load_mni152_gm_template,
    load_mni152_wm_template,
)
from numpy.random import Generator
from scipy import ndimage

from brainage.cohorts.bids_files import write_dictionary
from brainage.cohorts.cohort import SOURCE, SYNTHETIC
from brainage.errors import CohortError
from brainage.files import atomic_write_bytes, atomic_write_text
from brainage.types import DoubleArray, FloatArray, Volume

YOUNGEST_YEARS, OLDEST_YEARS = 18.0, 90.0
SITES = ("alpha", "beta")
NOTICE = "Synthetic phantoms made by brainage; no image or row describes a person."

# T1 brightness of white matter, grey matter and fluid, of the order seen in the template.
_WHITE, _GREY, _FLUID = 1.0, 0.70, 0.22


@dataclass(frozen=True)
class _Anatomy:
    """Tissue shares (I, J, K) of the template, and where fluid gains ground with age."""

    grey: FloatArray
    white: FloatArray
    fluid: FloatArray
    ventricles: FloatArray
    sulci: FloatArray
    affine: DoubleArray


def write_phantom_cohort(
    folder: str | Path,
    subjects: int,
    seed: int,
    *,
    sites: Sequence[str] = SITES,
    sessions: int = 1,
    spacing_mm: int = 4,
) -> Path:
    """Write a synthetic cohort as a BIDS folder with a cohort table.

    The folder holds dataset_description.json, README, participants.tsv, cohort.csv and
    sub-*/[ses-*/]anat/*_T1w.nii.gz; with several sessions also sub-*/sub-*_sessions.tsv. The same
    arguments give the same bytes.

    Parameters
    ----------
    folder : str or pathlib.Path
        Made if missing; files of the same names are replaced.
    subjects : int
        People, aged 18 to 90 years evenly.
    seed : int
        Decides everything that is random.
    sites : sequence of str
        Scanners, differing in brightness and noise.
    sessions : int
        Scans of each person, one to three years apart.
    spacing_mm : int
        Edge of a voxel: 2 to 4 is sensible.

    Returns
    -------
    pathlib.Path
        cohort.csv with columns scan_id, subject_id, session_id, age_years, sex, site, source, path.

    Raises
    ------
    CohortError
        If there are no subjects, sessions or sites, or the folder cannot be written.
    """
    root = Path(folder)
    if min(subjects, sessions, len(sites)) < 1:
        problem = (
            f"expected subjects, sessions and sites, got {subjects}, {sessions}, {len(sites)}."
        )
        raise CohortError(str(root), problem)
    rows: list[dict[str, object]] = []
    try:
        for number in range(subjects):
            rows += _write_subject(root, number, seed, sites, sessions, spacing_mm)
        return _write_tables(root, pd.DataFrame(rows), sessions)
    except OSError as error:
        problem = f"phantoms cannot be written ({error.strerror})."
        raise CohortError(str(root), problem, "Choose another folder.") from error


def build_phantom(
    age_years: float, shape_rng: Generator, scan_rng: Generator, site: int = 0, spacing_mm: int = 4
) -> Volume:
    """Draw one synthetic brain-extracted T1 volume in MNI space.

    Parameters
    ----------
    shape_rng : numpy.random.Generator
        Draws the person: head shape and how fast each tissue ages.
    scan_rng : numpy.random.Generator
        Draws the scan: pose, brightness, bias field, noise.
    site : int
        Number of the scanner; higher ones are noisier.

    Returns
    -------
    Volume
        Non-negative, background 0.
    """
    anatomy = _load_anatomy(spacing_mm)
    image = _draw_tissue(anatomy, *_draw_ageing(age_years, shape_rng))
    image = _warp(image, shape_rng, scan_rng, spacing_mm)
    brain = image > 0.5 * _FLUID
    # Three slow waves along each axis stand for the coil's sensitivity.
    image *= np.exp(_smooth_field(scan_rng, image.shape, 3, 0.05))
    image += scan_rng.normal(0, 0.02 + 0.01 * site, image.shape)
    brightness = scan_rng.uniform(300, 500) * (1 + 0.5 * site)
    data = np.where(brain, (image * brightness).clip(1), 0).astype(np.float32)
    return Volume(data, anatomy.affine.copy())


def _draw_ageing(age_years: float, rng: Generator) -> tuple[float, float, float]:
    """Amounts, about 0 to 1, of ventricle growth, sulcal widening and grey matter loss.

    Ageing gains speed, and people of one age differ: the share that all three amounts have in
    common makes perfect prediction impossible.
    """
    years = (age_years - YOUNGEST_YEARS) / (OLDEST_YEARS - YOUNGEST_YEARS)
    common = 0.6 * years + 0.4 * years**2 + rng.normal(0, 0.03)
    ventricles, sulci, grey = (common + rng.normal(0, 0.05, size=3)).clip(0, 1.3)
    return float(ventricles), float(sulci), float(grey)


def _draw_tissue(anatomy: _Anatomy, ventricles: float, sulci: float, grey: float) -> FloatArray:
    # The ventricles' edge moves outward along a smooth field; sulci gain where fluid already is.
    growth = 1 / (1 + np.exp((0.85 - 0.6 * ventricles - anatomy.ventricles) / 0.06))
    gained = (growth + 0.9 * sulci * anatomy.sulci).clip(0, 1)
    thinned = anatomy.grey * (1 - 0.20 * grey)
    tissue = thinned + anatomy.white
    fluid = (anatomy.fluid + anatomy.grey - thinned + gained * tissue).clip(0, 1)
    remaining = 1 - gained
    brightness = _WHITE * anatomy.white + (_GREY - 0.08 * grey) * thinned
    return (brightness * remaining + _FLUID * fluid).astype(np.float32)


def _warp(
    image: FloatArray, shape_rng: Generator, scan_rng: Generator, spacing_mm: float
) -> FloatArray:
    """Give the brain a size and shape of its own, and the pose of an imperfect registration."""
    angles = scan_rng.normal(0, 0.015, size=3)
    turn = np.eye(3) + np.cross(np.eye(3), angles)  # small rotations, in radians
    scale = np.diag(1 + shape_rng.normal(0, 0.012, size=3))
    shift = scan_rng.normal(0, 0.7, size=3) / spacing_mm
    centre = (np.array(image.shape) - 1) / 2
    index = np.indices(image.shape, dtype=np.float64)
    offsets = (index.reshape(3, -1).T - centre) @ (turn @ scale).T + centre + shift
    bumps = [_smooth_field(shape_rng, image.shape, 6, 0.8 / spacing_mm).ravel() for _ in range(3)]
    return ndimage.map_coordinates(image, offsets.T + bumps, order=1).reshape(image.shape)


def _smooth_field(rng: Generator, shape: tuple[int, ...], waves: int, size: float) -> DoubleArray:
    """Random sum of the `waves` slowest cosines along each axis, standard deviation `size`."""
    amounts = rng.normal(0, size / np.sqrt(waves**3), size=(waves,) * 3)
    cosines = [
        np.sqrt(2) * np.cos(np.pi * np.outer(np.arange(side) + 0.5, np.arange(waves)) / side)
        for side in shape
    ]
    field: DoubleArray = np.einsum("abc,ia,jb,kc->ijk", amounts, *cosines, optimize=True)
    return field


@lru_cache(maxsize=2)
def _load_anatomy(spacing_mm: int) -> _Anatomy:
    mask_image = load_mni152_brain_mask(resolution=spacing_mm)
    mask = np.asarray(mask_image.dataobj) > 0.5
    grey, white = (
        np.where(mask, load(resolution=spacing_mm).get_fdata(dtype=np.float32).clip(0, 1), 0)
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    total = np.maximum(grey + white, 1)
    grey, white = grey / total, white / total
    fluid = np.where(mask, 1 - grey - white, 0).astype(np.float32)
    depth_mm = ndimage.distance_transform_edt(mask) * spacing_mm
    return _Anatomy(
        grey=grey,
        white=white,
        fluid=fluid,
        # Fluid deeper than 25 mm is ventricle; the rest lies in sulci and around the brain.
        ventricles=_spread(np.where(depth_mm > 25, fluid, 0), 6 / spacing_mm),
        sulci=_spread(np.where(depth_mm <= 25, fluid, 0), 3 / spacing_mm) * mask,
        affine=np.asarray(mask_image.affine, dtype=np.float64),
    )


def _spread(seed: FloatArray, sigma: float) -> FloatArray:
    field: FloatArray = ndimage.gaussian_filter(seed, sigma)
    return field / field.max()


def _write_subject(
    root: Path, number: int, seed: int, sites: Sequence[str], sessions: int, spacing_mm: int
) -> list[dict[str, object]]:
    rng = np.random.default_rng([seed, number, 1])
    subject = f"sub-{number + 1:04d}"
    site = int(rng.integers(len(sites)))
    sex = str(rng.choice(["F", "M"]))
    age_years = float(rng.uniform(YOUNGEST_YEARS, OLDEST_YEARS))
    rows: list[dict[str, object]] = []
    for session in range(1, sessions + 1):
        label = f"ses-{session}" if sessions > 1 else ""
        scan_id = "_".join(part for part in (subject, label) if part)
        path = Path(subject, label, "anat", f"{scan_id}_T1w.nii.gz")
        # The person's draws start anew at each session: the same head, a little older.
        person = np.random.default_rng([seed, number, 2])
        scan = np.random.default_rng([seed, number, 2 + session])
        age_years = round(age_years, 2)
        _write_image(root / path, build_phantom(age_years, person, scan, site, spacing_mm))
        rows.append(
            {
                "scan_id": scan_id,
                "subject_id": subject,
                "session_id": label.removeprefix("ses-"),
                "age_years": age_years,
                "sex": sex,
                "site": sites[site],
                SOURCE: SYNTHETIC,
                "path": path.as_posix(),
            }
        )
        age_years += float(rng.uniform(1, 3))
    return rows


def _write_image(path: Path, volume: Volume) -> None:
    image = nib.Nifti1Image(np.round(volume.data).astype(np.int16), volume.affine)
    image.header["descrip"] = b"synthetic phantom"
    image.header.set_xyzt_units("mm")
    # No time stamp in the gzip header: the same seed gives the same bytes.
    atomic_write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def _write_tables(root: Path, rows: pd.DataFrame, sessions: int) -> Path:
    description = {
        "Name": "Synthetic brain-ageing phantoms",
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "License": "CC0",
        "Authors": ["brainage"],
        "Acknowledgements": NOTICE,
    }
    atomic_write_text(root / "dataset_description.json", json.dumps(description, indent=2) + "\n")
    atomic_write_text(root / "README", NOTICE + "\n")
    atomic_write_text(root / ".bidsignore", "# synthetic phantoms\ncohort.csv\n")
    bids = rows.rename(columns={"subject_id": "participant_id", "age_years": "age"})
    people = bids.drop_duplicates("participant_id")
    columns = ["participant_id", "age", "sex", "site", SOURCE]
    atomic_write_text(root / "participants.tsv", people[columns].to_csv(sep="\t", index=False))
    write_dictionary(root / "participants.json", columns)
    if sessions > 1:
        write_dictionary(root / "sessions.json", ["age", SOURCE])
        for subject, visits in bids.groupby("participant_id"):
            table = visits[["session_id", "age", SOURCE]].assign(
                session_id="ses-" + visits["session_id"]
            )
            path = root / f"{subject}/{subject}_sessions.tsv"
            atomic_write_text(path, table.to_csv(sep="\t", index=False))
    # The last of all: where it is, the cohort is whole.
    atomic_write_text(root / "cohort.csv", rows.to_csv(index=False))
    return root / "cohort.csv"
