"""One bit, anywhere in anything that is kept: it is refused or made anew, never used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainage.cohorts.phantom import build_phantom
from brainage.config import PreprocessingConfig
from brainage.errors import BundleError, CheckpointError
from brainage.model.build import build_model
from brainage.model.bundle import load_bundle, save_bundle, save_ensemble
from brainage.prepared.arrays import load_or_prepare
from brainage.prepared.derivatives import ScanRecord, ScanRequest, derive_scan, place_file
from brainage.prepared.sidecar import SIDECAR_SELF, read_sidecar
from brainage.prepared.source import ScanSource
from brainage.prepared.store import PreparedStore
from brainage.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from brainage.training.features import fill_store
from tests.small import make_config

FIXTURE = Path(__file__).parent / "fixtures" / "bundle_1"
SETTINGS = PreprocessingConfig(spacing_mm=8.0, shape=(20, 24, 20))
WHERE = st.floats(0, 1, exclude_max=True)
MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def flip(path: Path, where: float) -> Callable[[], None]:
    """Change the bit at a share of the file; returns what changes it back."""
    whole = path.read_bytes()
    bit = int(where * 8 * len(whole))
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    # A new file: others may be links to the same one.
    path.unlink()
    path.write_bytes(changed)
    return lambda: (path.unlink(), path.write_bytes(whole))[0]


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    config = make_config("cnn3d_light", blocks=2, workers_per_block=2)
    for name in ("fold-0", "fold-1"):
        save_bundle(folder / name, build_model(config), config, {})
    save_ensemble(folder, ["fold-0", "fold-1"], {})
    return folder


@MANY
@given(number=st.integers(0, 10**6), where=WHERE)
@pytest.mark.parametrize("kind", ["single", "ensemble"])
def test_bundle_with_one_changed_bit_is_refused(kind, ensemble, number, where, tmp_path):
    folder = ensemble
    if kind == "single":
        folder = tmp_path / "single"
        if not folder.exists():
            shutil.copytree(FIXTURE, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    mend = flip(files[number % len(files)], where)
    try:
        with pytest.raises(BundleError):
            load_bundle(folder)
    finally:
        mend()


def test_every_bit_of_a_manifest_counts(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(BundleError):
            load_bundle(path.parent)


@MANY
@given(where=WHERE)
def test_checkpoint_with_one_changed_bit_is_refused(where, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    tensors = {"model.a": torch.arange(50.0), "optimizer.0.0.step": torch.tensor(3.0)}
    save_checkpoint(Checkpoint(tensors, {"best_epoch": 1, "history": []}, "run"), path)
    flip(path, where)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path, "run")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    person, once = np.random.default_rng(1), np.random.default_rng(2)
    volume = build_phantom(50.0, person, once, spacing_mm=4)
    path = tmp_path_factory.mktemp("scan") / "scan.nii"
    nib.Nifti1Image(volume.data.astype(np.int16), volume.affine).to_filename(path)
    return path


@pytest.fixture(scope="module")
def cache(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache with a placement, a prepared array and a derivative of the scan."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        # Whether a phantom at 8 mm is a good scan is not the question here.
        patch.setattr("brainage.preprocessing.pipeline.judge", lambda *_: ("ok", ()))
        load_or_prepare(PreparedStore(folder), ScanSource(str(scan)), SETTINGS)
        derive_scan(request_for(scan, folder))
    return folder


def request_for(scan: Path, cache: Path) -> ScanRequest:
    return ScanRequest("scan", str(scan), str(cache), SETTINGS.model_dump(mode="json"))


@MANY
@given(number=st.integers(0, 3), where=WHERE)
@pytest.mark.parametrize("kind", ["placement", "array", "derivative"])
def test_kept_entry_with_one_changed_bit_is_removed_and_not_used(
    kind, number, where, cache, tmp_path
):
    (folder,) = cache.glob(f"prepared/{kind}/*/*")
    notes: list[str] = []
    store = PreparedStore(tmp_path, notes.append)
    copy = store.path(kind, folder.name)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    files = sorted(copy.iterdir())
    assert len(files) == (4 if kind == "derivative" else 2)
    assert store.load(kind, folder.name, lambda about, _: about) is not None
    flip(files[number % len(files)], where)
    assert store.load(kind, folder.name, lambda about, _: about) is None
    assert len(notes) == 1 and not copy.exists()


@pytest.fixture(scope="module")
def prepared(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume, mask and sidecar as `brainage prepare` lays them out."""
    (folder,) = cache.glob("prepared/derivative/*/*")
    target = tmp_path_factory.mktemp("prepared")
    store = PreparedStore(cache)
    record = store.load("derivative", folder.name, lambda about, _: ScanRecord(**about))
    assert record is not None
    place_file(folder / "T1w.nii.gz", target / "sub-1_desc-preproc_T1w.nii.gz")
    place_file(folder / "mask.nii.gz", target / "sub-1_desc-brain_mask.nii.gz")
    sidecar = json.dumps(record.provenance, indent=2)
    (target / "sub-1_desc-preproc_T1w.json").write_text(sidecar)
    return target


@MANY
@given(number=st.integers(0, 2), where=WHERE)
def test_sidecar_vouches_for_no_changed_bit(number, where, prepared):
    files = sorted(prepared.iterdir())
    image = prepared / "sub-1_desc-preproc_T1w.nii.gz"
    told = read_sidecar(image)
    assert len(files) == 3 and told is not None
    mend = flip(files[number], where)
    found = read_sidecar(image)
    mend()
    # In the sidecar a bit may change the name of the seal alone, as in one from before seals.
    lasting = {name: value for name, value in told.items() if name != SIDECAR_SELF}
    assert found is None or {name: found.get(name) for name in lasting} == lasting


def test_stored_features_lie_in_no_file_that_could_change(tmp_path):
    batch = {"inputs": torch.ones(2, 3), "target": torch.zeros(2), "index": torch.arange(2)}
    store = fill_store(
        lambda _: [batch],
        lambda inputs: inputs,
        variants=1,
        scans=2,
        feature_shape=(3,),
        folder=tmp_path,
        memory_bound_bytes=0,
    )
    assert isinstance(store.features, np.memmap) and not list(tmp_path.iterdir())


def test_bundle_of_the_previous_release_still_predicts():
    bundle = load_bundle(FIXTURE)
    grid = np.linspace(-1, 1, 2 * 16**3).reshape(2, 16, 16, 16).astype(np.float16)
    found = bundle.predict(grid)
    np.testing.assert_allclose(found.predicted_age_years, [51.87328, 53.22962], atol=1e-3)
    np.testing.assert_allclose(found.spread_years, [24.08594, 24.31638], atol=1e-3)
    assert bundle.ood is not None and bundle.reference is not None


def test_bundle_of_a_newer_form_is_refused_with_its_version(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "bundle")
    manifest = {"bundle_version": "2", "blake3": {"model.safetensors": "0"}}
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"bundle version '2', this program reads '1'"):
        load_bundle(tmp_path / "bundle")
