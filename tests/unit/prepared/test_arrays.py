"""The cache of prepared scans: never stale, never damaged, never lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import brainage.prepared.arrays as preparation
import brainage.prepared.placement as placement
import brainage.prepared.store as store_module
from brainage.config import PreprocessingConfig
from brainage.errors import StoreError
from brainage.prepared.arrays import (
    Preparation,
    PreparedScan,
    PreparedScans,
    load_or_prepare,
    load_scan,
    pack_scan,
    prepare_cohort,
    prepare_scan,
)
from brainage.prepared.source import ScanSource, hash_source
from brainage.prepared.store import Kind, PreparedStore, entry_key
from brainage.sandbox.engines import Engine
from brainage.types import Volume
from tests.heads import FAST, build_head

SETTINGS = PreprocessingConfig(spacing_mm=8.0, shape=(20, 24, 20))
OTHER = PreprocessingConfig(spacing_mm=8.0, shape=(20, 24, 21))


@pytest.fixture(scope="module")
def scans(phantom_cohort: Path) -> list[str]:
    return [str(phantom_cohort.parent / path) for path in pd.read_csv(phantom_cohort)["path"][:3]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans that were prepared rather than taken from the cache."""
    names: list[str] = []

    def count(source: ScanSource, *how: Any):
        names.append(source.where)
        return prepare_scan(source, *how)

    monkeypatch.setattr(preparation, "prepare_scan", count)
    return names


def prepare(paths: list[str], cache: Path, **options: object) -> PreparedScans:
    ids = [f"scan-{index}" for index in range(len(paths))]
    return prepare_cohort(paths, ids, SETTINGS, cache, **options)  # type: ignore[arg-type]


def test_a_prepared_scan_is_normalised_half_precision(scans: list[str]) -> None:
    array = prepare_scan(ScanSource(scans[0]), SETTINGS).array
    brain = array[array != 0].astype(np.float64)
    assert array.dtype == np.float16
    assert array.shape == SETTINGS.shape
    assert brain.mean() == pytest.approx(0, abs=0.01)
    assert brain.std() == pytest.approx(1, abs=0.01)


def test_a_second_run_takes_everything_from_the_cache(
    scans: list[str], tmp_path: Path, counted: list[str]
) -> None:
    first, again = prepare(scans, tmp_path), prepare(scans, tmp_path)
    assert counted == ["scan-0", "scan-1", "scan-2"]
    np.testing.assert_array_equal(first.arrays, again.arrays)
    np.testing.assert_array_equal(
        first.arrays[1], prepare_scan(ScanSource(scans[1]), SETTINGS).array
    )


def test_what_reading_told_is_in_the_ledger_also_from_the_cache(
    scans: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(Path(scans[0]).read_bytes() + b"JUNK")
    for _ in range(2):
        (entry,) = prepare([str(path)], tmp_path / "cache").entries
        assert entry.verdict != "failed" and "gzip" in entry.reason


def test_a_changed_file_is_prepared_anew(scans: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    store = PreparedStore(tmp_path / "cache")
    path.write_bytes(Path(scans[0]).read_bytes())
    _, old = load_or_prepare(store, ScanSource(str(path)), SETTINGS)
    path.write_bytes(Path(scans[1]).read_bytes())
    _, new = load_or_prepare(store, ScanSource(str(path)), SETTINGS)
    np.testing.assert_array_equal(new.array, prepare_scan(ScanSource(scans[1]), SETTINGS).array)
    assert not np.array_equal(old.array, new.array)


def test_every_setting_and_every_version_change_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {
        "spacing_mm": 7.0,
        "shape": (20, 24, 21),
        "min_mask_overlap": 0.5,
        "min_template_correlation": 0.1,
        "working_spacing_mm": 3.0,
        "bias_spacing_mm": 4.0,
        "bias_iterations": 5,
        "series": "T1",
        "intensity": "tissue",
        "inner_depth_mm": 4.0,
    }
    assert changes.keys() == PreprocessingConfig.model_fields.keys()

    def key(kind: Kind = "array", settings: PreprocessingConfig = SETTINGS) -> str:
        return entry_key(kind, "scan", settings)

    keys = {key(settings=SETTINGS.model_copy(update={name: changes[name]})) for name in changes}
    keys |= {key(), key("placement"), key("derivative"), entry_key("array", "other", SETTINGS)}
    for name, value in (
        ("limits_hash", lambda: "other limits"),
        ("library_versions", lambda: {"numpy": "0"}),
        ("CODE_VERSION", -1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(store_module, name, value)
            keys.add(key())
    assert len(keys) == len(changes) + 7


def test_a_placement_serves_every_grid_and_every_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    first = entry_key("placement", "scan", SETTINGS)
    monkeypatch.setattr(store_module, "limits_hash", lambda: "other limits")
    assert entry_key("placement", "scan", OTHER) == first


def test_both_files_of_a_pair_count(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 9, (9, 9, 9)).astype(np.int16)
    nib.save(nib.Nifti1Pair(data, np.eye(4)), tmp_path / "a.img")
    before = hash_source(ScanSource(str(tmp_path / "a.hdr")))
    assert hash_source(ScanSource(str(tmp_path / "a.img"))) == before
    nib.save(nib.Nifti1Pair(data + 1, np.eye(4)), tmp_path / "a.img")
    assert hash_source(ScanSource(str(tmp_path / "a.hdr"))) != before


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_rebuilt_never_served(
    scans: list[str], tmp_path: Path, counted: list[str], harm: str
) -> None:
    expected = prepare(scans[:1], tmp_path).arrays
    entry = next(tmp_path.rglob("array.npy"))
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes({"flip": content, "cut": content[:-40], "empty": b""}[harm])
    again = prepare(scans[:1], tmp_path)
    np.testing.assert_array_equal(again.arrays, expected)
    assert len(counted) == 2 and "damaged and is made again" in again.entries[0].reason
    assert "damaged" not in prepare(scans[:1], tmp_path).entries[0].reason


def test_an_entry_of_another_shape_is_not_served(tmp_path: Path) -> None:
    store = PreparedStore(tmp_path)
    scan = PreparedScan(np.zeros(OTHER.shape, np.float16), "mni brain", "flagged", ("dim",), {})
    store.save("array", "ab" * 32, *pack_scan(scan))
    found = load_scan(store, "ab" * 32, OTHER)
    assert found is not None
    assert (found.verdict, found.reasons) == ("flagged", ("dim",))
    assert load_scan(store, "ab" * 32, SETTINGS) is None


def test_failing_scans_are_entries_with_stage_and_reason(scans: list[str], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(0, 9, (9, 9, 9)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), tmp_path / "noise.nii")
    paths = [scans[0], str(tmp_path / "none.nii"), str(tmp_path / "noise.nii"), scans[1]]
    prepared = prepare(paths, tmp_path / "cache")
    # Smooth phantoms of 4 mm may be flagged as blurred: they are used all the same.
    found = [(e.scan_id, e.stage, e.verdict == "failed") for e in prepared.entries]
    assert found == [
        ("scan-0", "prepare", False),
        ("scan-1", "read", True),
        ("scan-2", "prepare", True),
        ("scan-3", "prepare", False),
    ]
    assert "there is no file none.nii" in prepared.entries[1].reason
    assert "looks like a brain" in prepared.entries[2].reason
    assert prepared.kept.tolist() == [0, 3]
    np.testing.assert_array_equal(
        prepared.arrays[1], prepare_scan(ScanSource(scans[1]), SETTINGS).array
    )


def test_a_cohort_of_failures_gives_no_arrays(tmp_path: Path) -> None:
    prepared = prepare([str(tmp_path / "none.nii")], tmp_path / "cache")
    assert prepared.arrays.shape == (0, *SETTINGS.shape)
    assert prepared.kept.dtype == np.int64


def test_progress_counts_every_scan(scans: list[str], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    prepare([*scans, "none.nii"], tmp_path, on_progress=lambda *done: seen.append(done))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_interruption_keeps_what_was_finished(
    scans: list[str], tmp_path: Path, counted: list[str]
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(scans, tmp_path, on_progress=interrupt)
    prepare(scans, tmp_path)
    assert counted == ["scan-0", "scan-1", "scan-2"]


def test_a_cohort_above_the_bound_is_memory_mapped(scans: list[str], tmp_path: Path) -> None:
    inside = prepare(scans, tmp_path)
    mapped = prepare(scans, tmp_path, how=Preparation(memory_bound_bytes=1000))
    assert isinstance(mapped.arrays, np.memmap)
    assert not isinstance(inside.arrays, np.memmap)
    np.testing.assert_array_equal(mapped.arrays, inside.arrays)
    assert not list(tmp_path.glob(".*.arrays")), "a killed run would leave it behind"


def test_a_cache_that_cannot_be_written_is_one_clear_error(
    scans: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(StoreError, match="choose another cache folder"):
        prepare(scans, tmp_path / "cache")


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the scans whose brains were looked for, rather than taken from the cache."""
    names: list[str] = []
    process = placement.process_volume

    def count(volume: Volume, settings: PreprocessingConfig, where: str, **options: object):
        names.append(where)
        return process(volume, settings, where, **options)

    monkeypatch.setattr(placement, "process_volume", count)
    return names


def test_another_grid_takes_the_placement_from_the_cache_to_the_same_bits(
    tmp_path: Path, placed: list[str]
) -> None:
    head = build_head()
    nib.save(nib.Nifti1Image(head.data, head.affine), tmp_path / "head.nii")
    scan = ScanSource(str(tmp_path / "head.nii"), "head")
    finer = FAST.model_copy(update={"spacing_mm": 4.0, "shape": (40, 48, 40)})
    cache = PreparedStore(tmp_path / "cache")
    prepare_scan(scan, FAST, cache)
    again = prepare_scan(scan, finer, cache)
    assert placed == ["head"]
    alone = prepare_scan(scan, finer)
    np.testing.assert_array_equal(again.array, alone.array)
    assert (again.measures, again.verdict) == (alone.measures, alone.verdict)
    other = FAST.model_copy(update={"bias_iterations": 5})
    keys = [entry_key("placement", "scan", settings) for settings in (FAST, finer, other)]
    assert keys[0] == keys[1] != keys[2]


def test_a_damaged_placement_is_found_again(
    scans: list[str], tmp_path: Path, placed: list[str]
) -> None:
    notes: list[str] = []
    cache = PreparedStore(tmp_path, notes.append)
    first = prepare_scan(ScanSource(scans[0], "scan"), SETTINGS, cache)
    (file,) = tmp_path.rglob("*.npz")
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    again = prepare_scan(ScanSource(scans[0], "scan"), SETTINGS, cache)
    np.testing.assert_array_equal(first.array, again.array)
    assert placed == ["scan", "scan"] and len(notes) == 1


def test_a_mask_or_a_command_is_part_of_the_hash(scans: list[str]) -> None:
    plain = ScanSource(scans[0])
    others = [replace(plain, mask=scans[1]), replace(plain, command="hd-bet {input} {output}")]
    assert len({hash_source(source) for source in (plain, *others)}) == 3


def test_a_crash_of_one_scan_is_a_row_and_costs_no_other(
    scans: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "TASK", "tests.child_tasks:prepare_or_crash")
    how = Preparation(Engine("serial"))
    paths = [scans[0], str(tmp_path / "crash.nii"), scans[1]]
    Path(paths[1]).write_bytes(Path(scans[2]).read_bytes())
    prepared = prepare(paths, tmp_path / "cache", how=how)
    assert prepared.kept.tolist() == [0, 2]
    crashed = prepared.entries[1]
    assert (crashed.stage, crashed.verdict) == ("process", "failed")
    assert crashed.reason == "its process crashed (SIGSEGV)."
    alone = prepare_scan(ScanSource(scans[1]), SETTINGS)
    np.testing.assert_array_equal(prepared.arrays[1], alone.array)


def test_a_whole_head_is_prepared_like_any_scan(tmp_path: Path) -> None:
    head = build_head()
    nib.save(nib.Nifti1Image(head.data, head.affine), tmp_path / "head.nii")
    entry, again = (
        prepare_cohort([str(tmp_path / "head.nii")], ["head"], FAST, tmp_path / "cache").entries[0]
        for _ in range(2)
    )
    assert entry.verdict in ("ok", "flagged")
    assert (again.verdict, again.reason) == (entry.verdict, entry.reason)
    assert again.seconds < entry.seconds
