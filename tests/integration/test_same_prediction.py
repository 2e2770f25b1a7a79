"""One scan in every orientation and format gets one prediction: within 0.1 year."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainage.cohorts.cohort import read_cohort
from brainage.config import PreprocessingConfig, load_preset, with_changes
from brainage.inference.predict import predict_scans, scans_table
from brainage.model.bundle import Bundle, load_bundle
from brainage.prepared.arrays import prepare_scan
from brainage.prepared.source import ScanSource
from brainage.prepared.store import PreparedStore
from brainage.scans.volume import load_volume
from brainage.types import Volume
from brainage.workflows.train import train
from tests.dicom_helpers import write_series, zip_files
from tests.heads import FAST, build_head, orientations, save_formats, save_turned
from tests.phantoms import fill_cache

TOLERANCE_YEARS = 0.1


def train_on_phantoms(
    cohort: Path, folder: Path, preprocessing: PreprocessingConfig, epochs: int
) -> Bundle:
    changes = {"preprocessing": preprocessing.model_dump(mode="json"), "training.epochs": epochs}
    changes |= {"learning.method": "bp", "training.learning_rate": 0.005}
    config = with_changes(load_preset("phantom"), changes)
    paths = read_cohort(cohort).cohort.table["path"]
    cache = fill_cache(paths, config.preprocessing, folder / "cache")
    train(
        cohort, folder / "model", config, cache=cache, tracking_uri="off", baselines=("constant",)
    )
    return load_bundle(folder / "model")


@pytest.fixture(scope="module")
def bundle(phantom_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    coarse = FAST.model_copy(update={"spacing_mm": 10.0, "shape": (16, 20, 16)})
    return train_on_phantoms(phantom_cohort, tmp_path_factory.mktemp("small"), coarse, 15)


def predict(bundle: Bundle, paths: list[Path], cache: Path) -> pd.Series:
    result = predict_scans(bundle, scans_table([str(path) for path in paths])[0], cache)
    assert not result.failed
    return result.table.set_index("path")["predicted_age_years"]


def write_all(head: Volume, folder: Path, codes: list[str]) -> list[Path]:
    """The head as it is, then turned, in other formats, and as a zip of DICOM."""
    whole = Volume(np.round(head.data / head.data.max() * 30000), head.affine)
    turned = [save_turned(whole, code, folder) for code in ["RAS", *codes]]
    study = zip_files(folder / "study.zip", write_series(folder / "dicom", whole))
    return [*turned, *save_formats(whole, folder), study]


def spread_years(ages: pd.Series) -> float:
    return float((ages - ages.iloc[0]).abs().max())


def test_a_head_has_one_age_however_it_is_stored(bundle: Bundle, tmp_path: Path) -> None:
    # Orientations and formats that are read to the same voxels: preprocessing/test_pipeline.py.
    written = write_all(build_head(), tmp_path, [])
    names = ("RAS.nii", "slope.nii", "study.zip")
    paths = [path for path in written if path.name in names]
    ages = predict(bundle, paths, tmp_path / "cache")
    assert len(ages) == 3 and spread_years(ages) <= TOLERANCE_YEARS


def test_another_head_has_another_age(bundle: Bundle, phantom_cohort: Path, tmp_path: Path) -> None:
    # Without this, a model that says the same of everybody would pass the tests above and below.
    table = pd.read_csv(phantom_cohort).sort_values("age_years")
    paths = [phantom_cohort.parent / table["path"].iloc[place] for place in (0, -1)]
    assert spread_years(predict(bundle, paths, tmp_path / "cache")) > 10 * TOLERANCE_YEARS


@pytest.mark.slow
def test_a_real_scan_has_one_age_in_48_orientations_and_every_format(
    data_root: Path, phantom_cohort: Path, tmp_path: Path, record_property
) -> None:
    """Prepared volumes agree to 0.5 % of their range too, through DICOM as well."""
    settings = load_preset("phantom").preprocessing
    real = train_on_phantoms(phantom_cohort, tmp_path / "train", settings, 10)
    scan = data_root / "ixi_hh" / "sub-IXI033" / "anat" / "sub-IXI033_T1w.nii.gz"
    paths = write_all(load_volume(scan), tmp_path, orientations())
    ages = predict(real, paths, tmp_path / "cache")
    arrays = [
        prepare_scan(
            ScanSource(str(path)), settings, PreparedStore(tmp_path / "cache")
        ).array.astype(np.float32)
        for path in paths
    ]
    inside = np.all([array != 0 for array in arrays], axis=0)
    worst = max(float(np.abs(array - arrays[0])[inside].max()) for array in arrays)
    record_property("spread_years", spread_years(ages))
    record_property("spread_share", worst / float(np.ptp(arrays[0])))
    assert spread_years(ages) <= TOLERANCE_YEARS
    assert worst <= 0.005 * np.ptp(arrays[0])
