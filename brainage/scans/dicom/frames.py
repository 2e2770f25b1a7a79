"""Enhanced DICOM files whose frames are not in the order of their places: a copy in order.

dcm2niix takes the frames of most manufacturers in the order in which they come, those of Philips in
the order of their numbers.
"""

from pathlib import Path

import numpy as np

from brainage.errors import VolumeError
from brainage.scans.dicom.read import DicomImage


def find_order(image: DicomImage) -> list[int]:
    """Return the order of a file's frames by place; none where they ascend, or one is alone.

    Where places ascend but the frames' own numbers do not, it is the order as it is. Of frames that
    descend, dcm2niix takes those of some manufacturers upside down.
    """
    row, column = np.reshape(image.orientation, (2, 3))
    along = np.array(image.positions_mm) @ np.cross(row, column)
    order: list[int] = np.argsort(along).tolist()
    return [] if order == sorted(order) and image.frames_in_order else order


def write_in_order(path: Path, order: list[int], target: Path, where: str) -> None:
    """Write a copy of a file with its frames in an order; their pixels stay as they are stored.

    Raises
    ------
    VolumeError
        If it cannot be written so.
    """
    import pydicom
    from pydicom.encaps import encapsulate, generate_frames

    try:
        header = pydicom.dcmread(path)
        groups = list(header.PerFrameFunctionalGroupsSequence)
        packed = header.file_meta.TransferSyntaxUID.is_compressed
        size = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated // 8
        pixels = (
            list(generate_frames(header.PixelData, number_of_frames=len(groups)))
            if packed
            else [header.PixelData[size * n : size * (n + 1)] for n in range(len(groups))]
        )
        for group in groups:
            group.pop("FrameContentSequence", None)  # it tells the former order
        header.PerFrameFunctionalGroupsSequence = [groups[place] for place in order]
        ordered = [pixels[place] for place in order]
        header.PixelData = encapsulate(ordered) if packed else b"".join(ordered)
        header.save_as(target)
    except Exception as error:  # what is odd in a header makes pydicom raise nearly anything
        problem = f"its frames are not in the order of their places ({type(error).__name__})."
        raise VolumeError(where, problem, "Export it as single-frame images.") from error
