"""The node's campaigns, in small: each holds what its page tells."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pynetdicom")

from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage

from brainage.model.bundle import copy_bundle, load_bundle
from tests.node_helpers import read_ledger
from tools.node.associations import DAMAGES, record_talk, run_attacks
from tools.node.campaign import Sender, judge, read_archive, run_campaign
from tools.node.stand import ORTHANC, NodeProcess, Orthanc, free_port, wait_for
from tools.node.studies import Study, make_studies

GOOD = [
    {"SOPClassUID": str(kind), "PatientID": "P", "PatientName": "N"}
    for kind in (Comprehensive3DSRStorage, EncapsulatedPDFStorage)
]


@pytest.mark.parametrize(
    ("is_usable", "found", "outcome", "right"),
    [
        (True, GOOD, "sent", True),
        (True, GOOD[:1], "sent", False),
        (True, [*GOOD, GOOD[0]], "sent", False),
        (True, [GOOD[0], GOOD[1] | {"PatientID": "Q"}], "sent", False),
        (True, GOOD, "refused", False),
        (False, [], "refused", True),
        (False, [], None, False),
        (False, GOOD, "refused", False),
    ],
)
def test_study_is_judged_by_results_and_line(is_usable, found, outcome, right, tmp_path):
    lines = [{"outcome": outcome}] if outcome else []
    assert (not judge(Study("T1", "P", "N", tmp_path, is_usable), found, lines)) is right


@pytest.mark.slow
def test_node_outlives_damaged_associations(tmp_path):
    bounds = ["--quiet", "1", "--idle", "2", "--max-object-mb", "1", "--keep-free-mb", "1"]
    node = NodeProcess(tmp_path / "queue", free_port(), tmp_path / "log.txt", bounds)
    try:
        assert not run_attacks(node, 4 * len(DAMAGES))[1]
    finally:
        node.process.kill()
    assert record_talk()[0][:1] == b"\x01"


@pytest.mark.slow
def test_studies_come_through_two_kills_and_a_full_disk(data_root: Path, tmp_path):
    if not (ORTHANC.exists() and shutil.which("storescu") and shutil.which("dciodvfy")):
        pytest.skip("apt-get install orthanc dcmtk dicom3tools")
    heads = sorted((data_root / "oasis1" / "t1").glob("*.nii.gz"))[:1]
    assert not run_campaign(heads, 9, tmp_path)[1]


@pytest.mark.slow
def test_results_of_two_calibrations_stand_beside_each_other(data_root: Path, tmp_path):
    if not (ORTHANC.exists() and shutil.which("storescu")):
        pytest.skip("apt-get install orthanc dcmtk")
    bundle = load_bundle(Path(__file__).parent / "fixtures" / "bundle_1")
    for name, offset in (("first", 3.0), ("second", -2.0)):
        calibration = {**bundle.facts["calibration"], "offset_years": offset}
        copy_bundle(bundle, tmp_path / name, {"calibration": calibration})
    heads = sorted((data_root / "oasis1" / "t1").glob("*.nii.gz"))[:1]
    study = make_studies(tmp_path / "studies", heads, 1)[0]
    archive, queue, found = Orthanc(tmp_path / "archive"), tmp_path / "queue", []
    try:
        for turn, name in enumerate(("first", "second", "first"), start=1):
            options = ["--quiet", "1", "--map", "none", "--model", str(tmp_path / name)]
            node = NodeProcess(queue, archive.port, tmp_path / "node.log", options)
            try:
                Sender(node).deliver(study)
                wait_for(lambda: len(read_ledger(queue)) == turn, 600, "a line")  # noqa: B023
            finally:
                node.close()
            found.append(read_archive(archive)[study.uid])
    finally:
        archive.close()
    assert [len(each) for each in found] == [3, 6, 6]
    assert not judge(study, found[0], read_ledger(queue))
    said = [one for one in found[-1] if one["SOPClassUID"] == Comprehensive3DSRStorage]
    assert len({one["SeriesInstanceUID"] for one in found[-1]}) == 6
    assert np.ptp([predicted_age(one) for one in said]) == pytest.approx(5.0, abs=0.02)


def predicted_age(tags: Any) -> float:
    """Find the first measurement of an SR, as Orthanc tells its tags."""
    group = [one for one in tags["ContentSequence"] if "ContentSequence" in one][-1]
    inner = [one for one in group["ContentSequence"] if "ContentSequence" in one][-1]
    numbers = [one for one in inner["ContentSequence"] if one["ValueType"] == "NUM"]
    return float(numbers[0]["MeasuredValueSequence"][0]["NumericValue"])
