"""Read one scan from disk: NIfTI, MGH, DICOM, archives."""
