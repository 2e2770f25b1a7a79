from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from brainage.config import load_preset, with_changes
from brainage.inference.model import Model
from brainage.inference.predict import scans_table
from brainage.model.build import build_model
from brainage.model.bundle import load_bundle, save_bundle
from brainage.preprocessing.skull import load_skull
from brainage.report import ExamineOptions, build_report, examine_scan, get_ready
from brainage.report.volumes import load_soft_tissues
from brainage.scans.volume import load_volume
from tests.unit.report.test_report import FACTS, MODEL, findings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    config = with_changes(
        load_preset("phantom"), {"target.low_years": 15.0, "target.high_years": 95.0}
    )
    save_bundle(folder, build_model(config).eval(), config, {})
    return Model(load_bundle(folder))


@pytest.fixture(scope="module")
def scan(phantom_cohort):
    return sorted(phantom_cohort.parent.glob("**/*_T1w.nii.gz"))[0]


def test_report_says_what_predict_says(model, scan, tmp_path):
    table, _ = scans_table([str(scan)])
    predicted = model.predict_table(table, cache=tmp_path).table["predicted_age_years"][0]
    stages: list[str] = []
    found = examine_scan(
        model,
        scan,
        ExamineOptions(age_years=40.0, map_method="integrated_gradients"),
        on_stage=stages.append,
    )
    assert found.predicted_age_years == pytest.approx(predicted, abs=1e-4)
    assert found.interval_years is None and found.ood_percentile is None
    assert found.attribution is not None and found.attribution.unit == "years per cm³"
    assert stages == ["locate", "pictures", "predict", "volumes", "map"]
    assert found.brain is not None and found.brain[1].any()
    assert len(found.code) == 6 and found.voxel_mm == pytest.approx((4.0, 4.0, 4.0))
    difference = found.attribution.predicted_age_years - found.attribution.reference_age_years
    assert sum(years for _, years in found.attribution.regions) == pytest.approx(
        difference, abs=0.5
    )
    voxel_ml = np.prod(found.attribution.volume.spacing_mm) / 1000
    whole = found.attribution.volume.data.sum() * voxel_ml
    assert whole == pytest.approx(difference, abs=0.5)


@pytest.mark.slow
def test_volumes_are_those_of_the_persons_own_brain(model, scan, tmp_path):
    usual = examine_scan(model, scan, ExamineOptions())
    assert 900 < sum(usual.volumes_ml.values()) < 2600
    # The same brain, 10 % smaller along each axis.
    image = load_volume(scan)
    small = np.diag([0.9, 0.9, 0.9, 1.0]) @ image.affine
    path = tmp_path / "small.nii.gz"
    nib.save(nib.Nifti1Image(image.data, small), path)
    found = examine_scan(model, path, ExamineOptions())
    ratio = sum(found.volumes_ml.values()) / sum(usual.volumes_ml.values())
    assert ratio == pytest.approx(0.729, abs=0.08)


def test_failed_scan_is_not_predicted(model, scan, tmp_path):
    image = load_volume(scan)
    inside = image.data > 0
    inverted = np.where(inside, image.data.max() * 1.05 - image.data, 0).astype(np.float32)
    path = tmp_path / "inverted.nii.gz"
    nib.save(nib.Nifti1Image(inverted, image.affine), path)
    found = examine_scan(model, path, ExamineOptions(age_years=40.0))
    assert found.verdict == "failed" and found.reasons
    assert not any("no usable T1 scan" in reason for reason in found.reasons), "said twice"
    assert found.predicted_age_years is None and not found.volumes_ml


def test_what_all_scans_need_is_there_before_the_first(model, monkeypatch):
    load_skull.cache_clear()
    load_soft_tissues.cache_clear()
    mapped = []
    monkeypatch.setattr(
        "brainage.report.examine.explain_prepared", lambda *given: mapped.append(given)
    )
    get_ready(model.bundle)
    assert {"_band", "share_costs", "share_offsets"} <= vars(load_skull().surface).keys()
    assert load_soft_tissues.cache_info().currsize == 1
    assert mapped[0][1].shape == model.bundle.config.preprocessing.shape


def test_the_error_at_sites_left_out_stands_beside_that_of_held_out_scans() -> None:
    rows = [{"n": 30, "mae_years": 8.0, "far_share": 0.2}]
    facts = FACTS | {"left_out": rows, "left_out_calibration": {"scores": []}}
    told = {
        row.name: row.value
        for row in build_report(findings(model=replace(MODEL, facts=facts))).model
    }
    assert told["Error on scanners left out"] == "8.0 years (mean, n 30), more than 15 in 20%"
    assert "Error on scanners left out" not in {row.name for row in build_report(findings()).model}
