"""Pixels that dcm2niix would take for others are refused, whatever the rest of a series is."""

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from brainage.errors import VolumeError
from brainage.scans.dicom.pixels import find_encoding_problem
from brainage.scans.open import read_scan
from tests.dicom_helpers import make_head, write_series


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "negative"),
        ({"BitsStored": 12, "HighBit": 15}, "lowest bits"),
        ({"PixelSpacing": None}, "size of a pixel"),
    ],
)
def test_pixels_that_would_be_taken_for_others_are_refused(
    fields: dict[str, Any], told: str, tmp_path: Path
) -> None:
    file = write_series(tmp_path, make_head())[7]
    header = pydicom.dcmread(file)
    for name, value in fields.items():
        setattr(header, name, value)
    header.save_as(file)
    with pytest.raises(VolumeError, match=told):
        read_scan(tmp_path)


@pytest.mark.parametrize(
    ("slopes", "is_refused"), [((1, 2), True), ((2, 2), False), ((None, 2), True)]
)
def test_frames_of_several_scales_are_refused(
    slopes: tuple[float | None, ...], is_refused: bool
) -> None:
    header = Dataset()
    header.PerFrameFunctionalGroupsSequence = [Dataset() for _ in slopes]
    for frame, slope in zip(header.PerFrameFunctionalGroupsSequence, slopes, strict=True):
        if slope is not None:
            scale = Dataset()
            scale.RescaleSlope, scale.RescaleIntercept = slope, 0
            frame.PixelValueTransformationSequence = [scale]
    assert bool(find_encoding_problem(header)) is is_refused


def test_frames_of_several_real_world_scales_are_refused() -> None:
    frames = [Dataset(), Dataset()]
    for frame, slope in zip(frames, (1.0, 2.0), strict=True):
        scale = Dataset()
        scale.RealWorldValueSlope = slope
        frame.RealWorldValueMappingSequence = [scale]
    header = Dataset()
    header.PerFrameFunctionalGroupsSequence = frames
    assert "RealWorldValueSlope" in find_encoding_problem(header)
