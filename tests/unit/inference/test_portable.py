"""An exported model gives the ages that torch gives, where torch is not installed."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from brainage.config import with_changes
from brainage.errors import BundleError, ShapeError, TrainingError
from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.ood import fit_ood
from brainage.files import sha256_file
from brainage.inference.onnx_graph import AgeGraph, _average_cells
from brainage.inference.portable import FILES, PortableModel, _reach_from_faces, _tell
from brainage.inference.predict import predict_columns
from brainage.model.build import build_model
from brainage.model.bundle import Bundle, load_bundle, save_bundle, save_ensemble
from brainage.prepared.arrays import prepare_scan
from brainage.prepared.sidecar import SIDECAR_IMAGE, SIDECAR_MASK, sign_sidecar
from brainage.prepared.source import ScanSource
from brainage.preprocessing.background import reach_from_faces
from brainage.preprocessing.mni import TEMPLATE_CENTRE_MM, coarsen_volume, resample_volume
from brainage.preprocessing.separable import resample_straight, smooth_volume
from brainage.preprocessing.template import TEMPLATE_SHA256
from brainage.types import Volume
from brainage.workflows.export import export
from tests.small import NETWORKS, make_config

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
FIXTURE = Path(__file__).parents[2] / "fixtures" / "onnx_1"
ZOO = Path(__file__).parents[3] / "brainage" / "model" / "zoo"
EVERY_WAY = {
    "inference.average_heads": "all",
    "inference.mirror": True,
    "inference.point": "median",
    "preprocessing.intensity": "local",
    "preprocessing.inner_depth_mm": 4.0,
    "learning.output_pool": 3,
    "learning.workers_per_block": 2,
    "network.arguments": {"channels": [3, 5], "pools": [2, 2]},
    "target.bins": 7,
}
CALIBRATION = ConformalInterval("normalised").fit(np.zeros(19), np.arange(1.0, 20.0), np.ones(19))
WIDER = ConformalInterval("absolute").fit(np.zeros(19), np.arange(11.0, 30.0))
CONTROLS = CALIBRATION.to_json() | {"offset_years": 2.5}


def noise(shape: tuple[int, ...] = (16, 16, 16), scans: int = 5) -> np.ndarray:
    scale = np.arange(1, scans + 1)[:, None, None, None]
    return (np.random.default_rng(3).normal(size=(scans, *shape)) * scale).astype(np.float16)


def write_ensemble(folder: Path) -> None:
    """Write the two tiny networks of ``tests/fixtures/onnx_1``."""
    for seed in range(2):
        config = with_changes(make_config("cnn3d_light"), EVERY_WAY | {"seed": seed})
        save_bundle(folder / f"fold-{seed}", build_model(config), config, {})
    # The last two scans of `noise` are unlike the others.
    ood = fit_ood(np.repeat(noise()[:3], 4, axis=0), [str(n) for n in range(12)])
    facts = {"calibration": CONTROLS, "left_out_calibration": WIDER.to_json()}
    save_ensemble(folder, ["fold-0", "fold-1"], facts, ood)


@pytest.fixture(scope="module")
def exported() -> tuple[Bundle, Path]:
    """An ensemble, and the folder of its export: kept, since torch takes 20 seconds for one."""
    return load_bundle(FIXTURE), FIXTURE / "onnx"


def write_prepared(folder: Path, spacing_mm: float, side_mm: float, shift: float) -> Path:
    """Write a ball of noise as `prepare` does; `shift` makes some of its voxels negative."""
    side = int(side_mm / spacing_mm)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = np.array(TEMPLATE_CENTRE_MM) - spacing_mm * (side - 1) / 2 + 0.7
    rng = np.random.default_rng(0)
    mask = np.linalg.norm(np.indices([side] * 3) - (side - 1) / 2, axis=0) < 0.45 * side
    data = ndimage.gaussian_filter(rng.normal(size=mask.shape), 2 / spacing_mm) * 3 + shift
    image, brain = (folder / f"a_desc-{what}.nii.gz" for what in ("preproc_T1w", "brain_mask"))
    for path, values in ((image, np.float32(data * mask)), (brain, np.uint8(mask))):
        nifti = nib.Nifti1Image(values, affine)
        nifti.set_sform(affine, code=4)
        nib.save(nifti, path)
    sums = {SIDECAR_IMAGE: sha256_file(image), SIDECAR_MASK: sha256_file(brain)}
    about = {"Verdict": "flagged", "Reasons": ["dark"], "Measures": {}}
    sidecar = sign_sidecar({"TemplateSHA256": TEMPLATE_SHA256, **sums, **about})
    image.with_name("a_desc-preproc_T1w.json").write_text(json.dumps(sidecar))
    return image


def test_every_number_is_that_of_torch(exported):
    bundle, folder = exported
    arrays = noise()
    wanted, found = predict_columns(bundle, arrays), PortableModel(folder).predict_arrays(arrays)
    assert wanted.keys() == found.keys() and wanted["ood_percentile"].max() > 99
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, rtol=0, err_msg=name)


@pytest.mark.parametrize(
    ("spacing_mm", "side_mm", "shift"),
    [(4.0, 180.0, 5.0), (4.0, 180.0, 0.7), (4.0, 180.0, 0.0), (0.5, 36.0, 5.0)],
)
def test_a_prepared_volume_becomes_the_same_array(exported, tmp_path, spacing_mm, side_mm, shift):
    bundle, folder = exported
    path = write_prepared(tmp_path, spacing_mm, side_mm, shift)
    wanted = prepare_scan(ScanSource(str(path)), bundle.config.preprocessing)
    found, sidecar = PortableModel(folder).prepare(path)
    assert wanted.recognised.startswith("prepared brain") and wanted.array.any()
    np.testing.assert_allclose(found, wanted.array, atol=2e-3)
    assert sidecar["Reasons"] == ["dark"]


PROGRAM = """
import sys
from importlib.machinery import PathFinder

ALLOWED = {"numpy", "onnxruntime", "flatbuffers", "google", "packaging", "brainage"}
ALLOWED |= {*sys.stdlib_module_names, "sitecustomize"}

class Only(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in ALLOWED or top.startswith("_sysconfig")
        return super().find_spec(name, path, target) if known else None

sys.meta_path[:] = [f for f in sys.meta_path if f.__module__.startswith("_frozen")]
sys.meta_path[sys.meta_path.index(PathFinder)] = Only
from brainage.inference.portable import main
sys.exit(main(sys.argv[1:]))
"""


def test_numpy_and_onnxruntime_are_all_that_is_needed(exported, tmp_path):
    bundle, folder = exported
    path = write_prepared(tmp_path, 4.0, 180.0, 5.0)
    other = tmp_path / "raw.nii.gz"
    shutil.copyfile(path, other)
    command = [sys.executable, "-c", PROGRAM, str(folder), str(path), str(other)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "1 scans failed" in result.stderr
    row, refused = csv.DictReader(io.StringIO(result.stdout))
    array = prepare_scan(ScanSource(str(path)), bundle.config.preprocessing).array
    wanted = bundle.predict(array[None]).predicted_age_years[0]
    assert float(row["predicted_age_years"]) == pytest.approx(wanted, abs=1e-2)
    assert (row["verdict"], row["reasons"]) == ("flagged", "dark")
    assert (refused["verdict"], refused["predicted_age_years"]) == ("failed", "nan")


def test_scans_that_are_unlike_or_without_an_interval_are_said(capsys):
    usual = {"verdict": "ok", "ood_percentile": 50.0, "interval_low_years": 40.0}
    assert _tell([usual]) == 0 and not capsys.readouterr().err
    bare = usual | {"ood_percentile": 99.0, "interval_low_years": np.nan}
    assert _tell([usual, bare, bare]) == 0
    told = capsys.readouterr().err
    assert "2 scans are unlike" in told and "2 scans have no interval" in told


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(exported, tmp_path, name):
    folder = shutil.copytree(exported[1], tmp_path / "copy")
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(BundleError, match="manifest"):
        PortableModel(folder)


def test_what_holds_no_exported_model_is_refused(exported, tmp_path):
    with pytest.raises(BundleError, match="export"):
        PortableModel(tmp_path)
    with pytest.raises(TrainingError, match="already"):
        export(None, exported[1])


def test_arrays_of_another_grid_are_refused(exported):
    with pytest.raises(ShapeError, match="16"):
        PortableModel(exported[1]).predict_arrays(noise((8, 16, 16)))


def test_the_graph_is_what_the_bundle_predicts(exported):
    bundle, _ = exported
    with torch.no_grad():
        ages, spreads = AgeGraph(bundle)(torch.from_numpy(np.float32(noise()[:, None])))
    wanted = bundle.predict(noise())
    np.testing.assert_allclose(ages, wanted.predicted_age_years, atol=1e-4, rtol=0)
    np.testing.assert_allclose(spreads, wanted.spread_years, atol=1e-4, rtol=0)


def test_cells_are_averaged_as_torch_does():
    features = torch.randn(2, 3, 5, 7, 4)
    wanted = functional.adaptive_avg_pool3d(features, (3, 2, 4))
    torch.testing.assert_close(_average_cells(features, [3, 2, 4]), wanted)


def test_an_export_is_whole_and_compared_with_torch(exported, tmp_path, monkeypatch):
    network = (exported[1] / "model.onnx").read_bytes()
    monkeypatch.setattr("brainage.workflows.export.build_onnx", lambda _: network)
    export(FIXTURE, tmp_path / "same")
    wanted = PortableModel(exported[1]).predict_arrays(noise())
    assert PortableModel(tmp_path / "same").predict_arrays(noise()).keys() == wanted.keys()
    with pytest.raises(BundleError, match="differ"):
        export(FIXTURE / "fold-1", tmp_path / "other")
    with pytest.raises(BundleError, match="whole"):
        PortableModel(tmp_path / "other")


@pytest.mark.parametrize("sigma", [0.4, 2.0, 9.0])
def test_matrices_smooth_as_filters_do(sigma):
    data = np.random.default_rng(0).normal(size=(9, 14, 11)).astype(np.float32)
    wanted = ndimage.gaussian_filter(data, sigma)
    np.testing.assert_allclose(smooth_volume(data, sigma), wanted, atol=1e-6)


@pytest.mark.parametrize(("spacing_mm", "finest_mm"), [(3.0, 1.0), (1.3, 0.6), (0.3, 0.0)])
def test_matrices_resample_as_scipy_does(spacing_mm, finest_mm):
    data = np.random.default_rng(0).normal(size=(13, 12, 15)).astype(np.float32)
    source = np.diag([0.5, 0.6, 0.3, 1.0])
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -1.0, 0.4, 0.1
    volume = Volume(data, source)
    wanted = resample_volume(coarsen_volume(volume, finest_mm), affine, (5, 6, 4))
    found = resample_straight(volume, affine, (5, 6, 4), finest_mm)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_background_is_found_as_by_labels():
    background = np.random.default_rng(0).random((12, 13, 14)) < 0.35
    wanted = reach_from_faces(background)
    assert wanted.sum() < background.sum()
    np.testing.assert_array_equal(_reach_from_faces(background), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_exported(tmp_path, name):
    config = with_changes(make_config(name), dict(list(EVERY_WAY.items())[:6]))
    save_bundle(tmp_path, build_model(config), config, {})
    export(tmp_path, tmp_path / "onnx")
    found = PortableModel(tmp_path / "onnx").predict_arrays(noise())
    wanted = load_bundle(tmp_path).predict(noise())
    np.testing.assert_allclose(
        found["predicted_age_years"], wanted.predicted_age_years, atol=1e-4, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["oasis1-ixi", "oasis1-v1"])
def test_released_models_keep_their_ages(tmp_path, name):
    export(ZOO / name, tmp_path)
    bundle = load_bundle(ZOO / name)
    arrays = noise(bundle.config.preprocessing.shape)
    wanted, found = predict_columns(bundle, arrays), PortableModel(tmp_path).predict_arrays(arrays)
    for column, values in wanted.items():
        np.testing.assert_allclose(found[column], values, atol=1e-4, rtol=0, err_msg=column)
