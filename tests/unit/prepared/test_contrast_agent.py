"""A contrast agent that header or name tell of is said wherever a scan is judged."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom.dataset import Dataset

from brainage.config import PreprocessingConfig
from brainage.prepared.arrays import prepare_cohort
from brainage.prepared.derivatives import ScanRequest, derive_scan
from brainage.prepared.placement import process_source
from brainage.prepared.source import ScanSource, hash_source
from brainage.prepared.store import PreparedStore
from brainage.scans.open import read_scan
from tests.dicom_helpers import write_series
from tests.heads import build_head

GIVEN = (
    *("MPRAGE_KM", "AX T1 GAD", "T1 C+", "t1Gd", "T1 POSTGAD", "t1 w/wo contrast", "T1_nach_KM"),
    *("T1 with and without contrast", "T1 +C", "t1 post", "T1 Kontrastmittel"),
)
NOT_GIVEN = (
    *(
        "T1 MPRAGE without contrast",
        "T1 W/O CONTRAST",
        "T1_no_contrast",
        "T1 PRE GAD",
        "t1 post op",
    ),
    *("T1 NON-CONTRAST", "MPRAGE ohne KM", "T1 vor KM", "T1 sans gado", "posterior fossa T1"),
)
SETTINGS = PreprocessingConfig(spacing_mm=8.0, shape=(20, 24, 20))
NAMES = {"sub-1_ce-gadolinium_T1w.nii.gz": True, "sub-1_acq-ce_T1w.nii.gz": False,
    "sub-1_ce-none_T1w.nii.gz": False, "sub-1_ce-precontrast_T1w.nii.gz": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def phantom(phantom_cohort: Path) -> Path:
    return phantom_cohort.parent / pd.read_csv(phantom_cohort)["path"][0]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_bids_file_tells(name: str, phantom: Path, tmp_path: Path) -> None:
    path = shutil.copy(phantom, tmp_path / name)
    processed = process_source(ScanSource(str(path)), SETTINGS).processed
    told = "a contrast agent was given (ce- in its name)"
    assert (told in processed.reasons) == NAMES[name]
    assert (processed.verdict == "flagged") == NAMES[name]


@pytest.mark.parametrize(
    ("attributes", "given"),
    [
        ({"ContrastBolusAgent": "Gadovist"}, True),
        ({"ContrastBolusAgent": "NONE"}, False),
        ({"ContrastBolusAgentSequence": [Dataset()]}, True),
        ({}, False),
        *(({"description": words}, True) for words in GIVEN),
        *(({"description": words}, False) for words in NOT_GIVEN),
    ],
)
def test_the_dicom_header_tells(attributes: dict[str, str], given: bool, tmp_path: Path) -> None:
    head = build_head()
    head.data[:] = 900 * head.data / head.data.max()
    write_series(tmp_path / "dicom", head, **attributes)
    told = read_scan(tmp_path / "dicom").contrast_agent
    assert told == ("the DICOM header" if given else "")


def test_it_is_said_in_ledger_and_sidecar_and_again_from_the_cache(
    phantom: Path, tmp_path: Path
) -> None:
    path = str(shutil.copy(phantom, tmp_path / "sub-1_ce-gd_T1w.nii.gz"))
    for _ in range(2):
        prepared = prepare_cohort([path], ["a"], SETTINGS, tmp_path / "cache")
        assert prepared.entries[0].verdict == "flagged"
        assert "contrast agent" in prepared.entries[0].reason
    request = ScanRequest("a", path, str(tmp_path / "cache"), SETTINGS.model_dump(mode="json"))
    record = derive_scan(request)
    assert record.verdict == record.provenance["Verdict"] == "flagged"
    assert "contrast agent" in record.reason and np.size(record.provenance["Reasons"]) == 1


def test_the_same_bytes_under_another_name_are_another_entry(phantom: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in NAMES]
    for path in paths:
        shutil.copy(phantom, path)
    assert len({hash_source(ScanSource(str(path))) for path in paths}) == 2
    store = PreparedStore(tmp_path / "cache")
    found = [process_source(ScanSource(str(path)), SETTINGS, store).processed for path in paths]
    assert [one.verdict for one in found] == ["flagged", "ok", "ok", "ok"]
