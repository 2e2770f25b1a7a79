"""Studies of the campaign: real heads as a scanner sends them, and what is not to be measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom.dsutils import encode

from brainage.types import Volume
from tests.dicom_helpers import make_head, write_series

SMALL = make_head((24, 28, 26))
# A head that was re-quantised to small numbers becomes counts, as scanners write them.
_BRIGHTEST = 1000.0


@dataclass
class Study:
    """What is sent under one Study Instance UID.

    Attributes
    ----------
    kind : str
        As in the campaign's table.
    patient : str
        PatientID.
    name : str
        PatientName.
    folder : pathlib.Path
        Of its files.
    is_usable : bool
        Whether it holds a T1 that is to be measured.
    uid : str
        Study Instance UID.
    damaged : list of tuple of str and bytes
        Objects that no tool would send: instance UID and bytes, sent as they are.
    """

    kind: str
    patient: str
    name: str
    folder: Path
    is_usable: bool
    uid: str = field(default_factory=lambda: str(generate_uid()))
    damaged: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, volume: Volume, **changes: Any) -> list[Path]:
        """Write a series of the study; returns its files."""
        place = self.folder / str(len(list(self.folder.iterdir())) if self.folder.exists() else 0)
        identity = {
            "PatientID": self.patient,
            "PatientName": self.name,
            "StudyInstanceUID": self.uid,
        }
        return write_series(place, volume, **{**identity, **changes})

    def files(self) -> list[Path]:
        """Return all its files, as they are sent."""
        return sorted(self.folder.rglob("*.dcm"))


def read_head(path: Path) -> Volume:
    """Read a NIfTI head, turned to RAS+, as counts."""
    image = nib.as_closest_canonical(nib.load(path))
    data = np.asarray(image.get_fdata(), dtype=np.float32)
    return Volume(data * (_BRIGHTEST / float(data.max())), image.affine)


def read_object(path: Path) -> tuple[str, bytes]:
    """Return an object's instance UID, and its data set as it is sent."""
    header = pydicom.dcmread(path)
    return str(header.SOPInstanceUID), encode(Dataset(header), False, True) or b""


def _t1(study: Study, head: Volume) -> None:
    study.add(head)


def _protocol(study: Study, head: Volume) -> None:
    """Localizer, T2, DWI and T1; all of one series number."""
    _localizer(study, head)
    _t2(study, head)
    _dwi(study, head)
    study.add(head, number=3)


def _two_t1(study: Study, head: Volume) -> None:
    """One with contrast agent, one without, of one series number."""
    study.add(SMALL, number=3, description="MPRAGE Gd", ContrastBolusAgent="Gd")
    study.add(head, number=3)


def _localizer(study: Study, head: Volume) -> None:
    study.add(SMALL, description="localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def _t2(study: Study, head: Volume) -> None:
    study.add(SMALL, description="t2_tse", ScanningSequence="SE", EchoTime=90.0)


def _flair(study: Study, head: Volume) -> None:
    times = {"EchoTime": 120.0, "RepetitionTime": 9000.0, "InversionTime": 2500.0}
    study.add(SMALL, description="t2_flair", ScanningSequence="IR", **times)


def _dwi(study: Study, head: Volume) -> None:
    study.add(SMALL, description="ep2d_diff", ScanningSequence="EP", EchoTime=80.0)


def _gap(study: Study, head: Volume) -> None:
    study.add(SMALL, skip=(10, 11))


def _cut(study: Study, head: Volume) -> None:
    """Pixel bytes of a slice are missing."""
    header = pydicom.dcmread(path := study.add(SMALL)[7])
    header.PixelData = header.PixelData[:100]
    header.save_as(path, enforce_file_format=True)


def _damaged(study: Study, head: Volume, places: Sequence[int] = (0,)) -> None:
    """Objects whose bytes end within the header, or are noise, among healthy ones."""
    rng = np.random.default_rng(len(study.uid))
    for place in sorted(places, reverse=True):
        path = (study.files() if study.folder.exists() else study.add(SMALL))[place]
        uid, content = read_object(path)
        noise = rng.integers(0, 256, 400, dtype=np.uint8).tobytes()
        study.damaged.append((uid, (content[:90], noise)[place % 2]))
        path.unlink()


def _all_damaged(study: Study, head: Volume) -> None:
    _damaged(study, head, range(len(study.add(SMALL))))


def _two_people(study: Study, head: Volume) -> None:
    study.add(SMALL)
    study.add(SMALL, PatientID=f"{study.patient}-B", PatientName="Other^Person")


# What comes again and again: kind, whether it holds a T1 to be measured, how it is made.
KINDS: tuple[tuple[str, bool, Callable[[Study, Volume], None]], ...] = (
    ("T1 alone", True, _t1),
    ("second study of the patient before", True, _t1),
    ("localizer", False, _localizer),
    ("localizer, T2, DWI, T1 of one series number", True, _protocol),
    ("T2", False, _t2),
    ("T1 with and without contrast agent, of one number", True, _two_t1),
    ("another patient of the same name", True, _t1),
    ("FLAIR", False, _flair),
    ("a slice cut short", False, _cut),
    ("first object damaged", False, _damaged),
    ("T1 alone", True, _t1),
    ("DWI", False, _dwi),
    ("slices missing", False, _gap),
    ("every object damaged", False, _all_damaged),
    ("two patients in one study", False, _two_people),
)


def make_studies(folder: Path, heads: Sequence[Path], count: int) -> list[Study]:
    """Make studies of all kinds in turn, their T1 from the heads in turn."""
    volumes, made = [read_head(path) for path in heads], list[Study]()
    for number in range(count):
        kind, is_usable, make = KINDS[number % len(KINDS)]
        patient, name = f"P{number:03d}", f"Name^N{number:03d}"
        if kind.startswith("second study"):
            patient, name = made[-1].patient, made[-1].name
        if kind.startswith("another patient"):
            name = made[-1].name
        study = Study(kind, patient, name, folder / f"{number:03d}", is_usable)
        make(study, volumes[sum(one.is_usable for one in made) % len(volumes)])
        made.append(study)
    return made
