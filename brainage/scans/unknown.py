"""Say what a file is that is no scan, in words a clinician understands."""

from brainage.files import explain_pointer

ACCEPTED = (
    "Give NIfTI (.nii, .nii.gz), a DICOM folder, file or zip, MGH/MGZ or an Analyze .hdr/.img pair."
)
_MAGICS = (
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"BM", "a picture (BMP)"),
    (b"II*\0", "a picture (TIFF)"),
    (b"MM\0*", "a picture (TIFF)"),
    (b"%PDF", "a document (PDF)"),
    (b"7z\xbc\xaf", "an archive (7z)"),
    (b"Rar!", "an archive (RAR)"),
    (b"\xfd7zXZ", "an archive (xz)"),
    (b"BZh", "an archive (bzip2)"),
    (b"PK\3\4", "an archive (zip) or an office document"),
)
# Formats of images that are not read.
_OTHER_IMAGES = (
    (b"NRRD", "NRRD"),
    (b"ObjectType", "MetaImage"),
    (b"# vtk", "VTK"),
    (b"\x89HDF", "MINC or HDF5"),
    (b"CDF", "MINC"),
    (b"# === DATA DESCRIPTION FILE", "PAR/REC"),
)


def describe_unknown(head: bytes) -> tuple[str, str]:
    """Return problem and remedy for the first bytes of a file in no known format."""
    if head.startswith(b"version https://git-lfs"):
        return explain_pointer("Git LFS")
    if b"annex/objects/" in head[:400]:
        return explain_pointer("git-annex")
    if head[128:132] == b"DICM":
        return "is a DICOM file, not a volume.", ACCEPTED
    if image := next((name for magic, name in _OTHER_IMAGES if head.startswith(magic)), ""):
        return f"is {image}, a format that is not read here.", "Convert it to NIfTI (.nii.gz)."
    name = next((name for magic, name in _MAGICS if head.startswith(magic)), "")
    if not name and head[257:262] == b"ustar":
        name = "an archive (tar)"
    if not name and _is_text(head):
        name = "a text file"
    if name.startswith("an archive"):
        return f"is {name}.", f"Unpack it first. {ACCEPTED}"
    if name:
        return f"is {name}, not a scan with voxels.", ACCEPTED
    return "is not a scan that can be read here: its format is unknown or damaged.", ACCEPTED


def _is_text(head: bytes) -> bool:
    return bool(head) and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
