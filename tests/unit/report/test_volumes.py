"""Volumes of phantoms, whose tissues are known, and of heads that another program segmented."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainage.cohorts.phantom import _draw_tissue, _load_anatomy
from brainage.config import PreprocessingConfig
from brainage.prepared.placement import process_source
from brainage.prepared.source import ScanSource
from brainage.report.volumes import PICTURE_FIELD_MM, PICTURE_SPACING_MM, measure_volumes
from brainage.types import Volume


def measure(ventricles: float, grey: float = 0.0) -> dict[str, float]:
    anatomy = _load_anatomy(4)
    tissue = _draw_tissue(anatomy, ventricles, 0.0, grey)
    noise = np.random.default_rng(0).normal(0, 0.03, tissue.shape).astype(np.float32)
    mask = tissue > 0.11
    return measure_volumes(Volume(tissue + noise, anatomy.affine), mask)


def test_tissues_are_those_of_the_template_and_make_up_the_brain() -> None:
    anatomy = _load_anatomy(4)
    found = measure(0.0)
    # Its grey matter is partial to white and fluid almost everywhere.
    for name in ("grey", "white"):
        assert found[name] == pytest.approx(getattr(anatomy, name).sum() * 0.064, rel=0.25)
    whole = float((_draw_tissue(anatomy, 0.0, 0.0, 0.0) > 0.11).sum()) * 0.064
    assert found["grey"] + found["white"] + found["fluid"] == pytest.approx(whole, rel=0.05)
    assert 0 < found["ventricles"] < found["fluid"]


def test_wider_ventricles_are_measured_as_ventricles() -> None:
    usual, wide = measure(0.0), measure(0.6)
    assert wide["ventricles"] > usual["ventricles"] + 5
    assert wide["fluid"] > usual["fluid"]


@pytest.mark.slow
def test_volumes_rank_heads_as_another_program_does(data_root: Path) -> None:
    reference = pd.read_csv(data_root / "ixi_dlmuse" / "volumes_mm3.csv", index_col=0)
    settings = PreprocessingConfig().on_grid(PICTURE_SPACING_MM, PICTURE_FIELD_MM)
    rows = {}
    for path in sorted((data_root / "ixi_hh").glob("sub-*/anat/*_T1w.nii.gz")):
        done = process_source(ScanSource(str(path), "head"), settings).processed
        scale = abs(np.linalg.det(done.transform[:3, :3]))
        found = measure_volumes(done.image, done.mask)
        rows[path.parts[-3]] = {name: ml / scale for name, ml in found.items()}
    table = pd.DataFrame(rows).T.join(reference, how="inner")
    assert len(table) >= 100
    table["total"] = table["grey"] + table["white"] + table["fluid"]
    pairs = {"grey": "GM", "white": "WM", "ventricles": "Ventricles", "total": "ICV"}
    alike = {a: np.corrcoef(table[a], table[b])[0, 1] for a, b in pairs.items()}
    assert min(alike.values()) >= 0.9, alike
