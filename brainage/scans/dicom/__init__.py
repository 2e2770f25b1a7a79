"""Read, choose and convert DICOM series."""
