"""Enhanced DICOM files: frames in any order give the volume, frames of several kinds a reason."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, RLELossless

from brainage.errors import VolumeError
from brainage.scans.open import read_scan
from tests.dicom_helpers import make_head, write_series

HEAD = make_head()
SLICES = HEAD.data.shape[2]


def write_enhanced(
    folder: Path,
    order: list[int],
    manufacturer: str,
    edit: Callable[[Dataset, int], None] | None = None,
) -> Path:
    """Write the head as one file, its frames in an order; returns the file."""
    singles = [pydicom.dcmread(file) for file in write_series(folder / "single", HEAD)]
    header, frames = singles[0].copy(), []
    for place in order:
        position, plane, size, content = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = singles[place].ImagePositionPatient
        plane.ImageOrientationPatient = singles[place].ImageOrientationPatient
        size.PixelSpacing = singles[place].PixelSpacing
        size.SliceThickness = singles[place].SliceThickness
        content.DimensionIndexValues = [1, place + 1]
        frame = Dataset()
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [position], [plane]
        frame.PixelMeasuresSequence, frame.FrameContentSequence = [size], [content]
        if edit is not None:
            edit(frame, place)
        frames.append(frame)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "EchoTime"):
        delattr(header, name)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    header.Manufacturer, header.NumberOfFrames = manufacturer, len(order)
    header.PerFrameFunctionalGroupsSequence = frames
    header.PixelData = b"".join(singles[place].PixelData for place in order)
    file = folder / "enhanced.dcm"
    header.save_as(file, enforce_file_format=True)
    return file


@pytest.mark.parametrize("manufacturer", ["SIEMENS", "Philips Medical Systems", "UIH"])
@pytest.mark.parametrize("kind", ["interleaved", "reversed", "shuffled"])
def test_frames_in_any_order_give_the_volume(kind: str, manufacturer: str, tmp_path: Path) -> None:
    order = list(range(SLICES))
    orders = {
        "interleaved": order[::2] + order[1::2],
        "reversed": order[::-1],
        "shuffled": random.Random(0).sample(order, SLICES),
    }
    read = read_scan(write_enhanced(tmp_path, orders[kind], manufacturer)).volume
    assert np.array_equal(read.data, HEAD.data)
    assert np.allclose(read.affine, HEAD.affine, atol=1e-3)


def test_packed_frames_are_put_in_order_too(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path, [*range(1, SLICES), 0], "SIEMENS")
    header = pydicom.dcmread(file)
    header.compress(RLELossless, generate_instance_uid=False)
    header.save_as(file, enforce_file_format=True)
    assert np.array_equal(read_scan(file).volume.data, HEAD.data)


def test_frames_that_cannot_be_put_in_order_are_refused(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path, [*range(1, SLICES), 0], "SIEMENS")
    header = pydicom.dcmread(file)
    header.FloatPixelData = header.PixelData * 2
    header.BitsAllocated = 32
    del header.PixelData
    header.save_as(file, enforce_file_format=True)
    with pytest.raises(VolumeError, match="not in the order of their places"):
        read_scan(file, "scan")


@pytest.mark.parametrize("keyword", ["DimensionIndexValues", "InStackPositionNumber"])
def test_places_count_where_numbers_of_frames_contradict_them(keyword: str, tmp_path: Path) -> None:
    def number(frame: Dataset, place: int) -> None:
        value = SLICES - place
        told = [1, value] if keyword == "DimensionIndexValues" else value
        setattr(frame.FrameContentSequence[0], keyword, told)

    file = write_enhanced(tmp_path, list(range(SLICES)), "Philips Medical Systems", number)
    assert np.array_equal(read_scan(file).volume.data, HEAD.data)


@pytest.mark.parametrize("told", ["EffectiveEchoTime", "FrameType"])
def test_frames_of_several_kinds_are_refused(told: str, tmp_path: Path) -> None:
    def edit(frame: Dataset, place: int) -> None:
        echo, kind = Dataset(), Dataset()
        echo.EffectiveEchoTime = 3.0 if told == "FrameType" or place % 2 else 20.0
        kind.FrameType = "M" if told != "FrameType" or place % 2 else "P"
        frame.MREchoSequence, frame.MRImageFrameTypeSequence = [echo], [kind]

    file = write_enhanced(tmp_path, list(range(SLICES)), "SIEMENS", edit)
    with pytest.raises(VolumeError, match=f"of its own .{told}"):
        read_scan(file, "scan")
