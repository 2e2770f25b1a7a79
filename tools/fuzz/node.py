"""The DICOM node's way of a study: received, kept, and chosen from."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
from pydicom.uid import MRImageStorage

from brainage.errors import BrainageError
from brainage.node.intake import SUCCESS, Delivery, Intake
from brainage.node.limits import NodeLimits
from brainage.node.spool import Spool
from brainage.node.study import choose_t1, read_sources
from tests.dicom_helpers import make_head, write_series
from tools.fuzz.target import Target

_LIMITS = NodeLimits(quiet_s=0.0, keep_free_mb=1)
# Preamble, prefix and the element that holds the length of the rest of a file's own header.
_BEFORE_META = 128 + 4 + 12


@cache
def _make_study() -> tuple[bytes, dict[str, bytes]]:
    """Return the header of files, and data sets by the UID that they are announced under."""
    study = {}
    with TemporaryDirectory() as folder:
        for path in write_series(Path(folder), make_head((8, 9, 21), 9.0)):
            header, content = pydicom.dcmread(path), path.read_bytes()
            start = _BEFORE_META + int(header.file_meta.FileMetaInformationGroupLength)
            study[str(header.SOPInstanceUID)] = content[start:]
    return content[:start], study


def node_seeds() -> list[dict[str, bytes]]:
    """A study of few slices, and a single object."""
    study = _make_study()[1]
    return [dict(list(study.items())[:1]), study]


def receive(folder: Path) -> None:
    """Receive data sets as of one association, and choose the T1 of what has become a study.

    Raises
    ------
    BrainageError
        If an object was refused, or there is no T1.
    AssertionError
        If an object is neither kept as it came nor known as lost to any study.
    """
    announced = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    contents = [(uid, _make_study()[0] + content) for uid, content in announced]
    with TemporaryDirectory() as queue:
        spool = Spool(Path(queue), _LIMITS)
        with spool.hold():
            intake, delivery = Intake(spool, lambda line: None), Delivery(1)
            answers = [intake.store(delivery, MRImageStorage, *one) for one in contents]
            intake.end(delivery, released=True)
            jobs = spool.take()
            kept = sorted(path.read_bytes() for path in spool.working.glob("*/objects/*.dcm"))
            taken = zip(contents, answers, strict=True)
            assert kept == sorted(one[1] for one, answer in taken if answer == SUCCESS)
            lost = [job for job in jobs if not spool.is_whole(job)]
            assert jobs and bool(lost) == any(answers)
            if lost:
                raise BrainageError("study", "is not whole.")
            for job in jobs:
                chosen, _ = choose_t1(spool.objects(job))
                read_sources(spool.objects(job), chosen, job.partition("-")[0])


NODE: dict[str, Target] = {"node": Target(node_seeds, receive)}
