"""The node's campaigns, in small: each holds what its page tells."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom")

from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage

from tools.node.associations import DAMAGES, record_talk, run_attacks
from tools.node.campaign import judge, run_campaign
from tools.node.stand import ORTHANC, NodeProcess, free_port
from tools.node.studies import Study

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
