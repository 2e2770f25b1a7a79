"""What the node's child tells apart and keeps."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from brainage.errors import BundleError
from brainage.inference.model import load_once
from brainage.model.bundle import copy_bundle
from brainage.node.study import _result_key
from brainage.report.findings import Findings, ModelIdentity

BUNDLE = Path(__file__).parents[2] / "fixtures" / "bundle_1"
ASKED = {"map_method": "", "orientation": "radiological", "age_from_dicom": False}
FOUND = Findings("scan", "ok", (), "", {}, ModelIdentity("m", "1", "ab" * 32, {}))


def key(asked: dict[str, Any] = ASKED, **facts: Any) -> str:
    return _result_key("1.2.3", replace(FOUND, model=replace(FOUND.model, facts=facts)), asked)


def test_results_of_a_calibrated_model_are_other_objects() -> None:
    offsets = [{"calibration": {"offset_years": years}} for years in (0.0, 3.5)]
    assert key(**offsets[0]) == key(**offsets[0]) != key(**offsets[1])


@pytest.mark.parametrize("name", ASKED)
def test_results_that_show_something_else_are_other_objects(name: str) -> None:
    assert key() != key(ASKED | {name: "else"})


def test_model_is_loaded_once_until_its_folder_changes(tmp_path: Path) -> None:
    shutil.copytree(BUNDLE, tmp_path / "model")
    first = load_once(tmp_path / "model")
    assert load_once(tmp_path / "model") is first
    copy_bundle(first.bundle, tmp_path / "model", {"calibration": None})
    assert load_once(tmp_path / "model").bundle.facts["calibration"] is None


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        load_once(tmp_path)
