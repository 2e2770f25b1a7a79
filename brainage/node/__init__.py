"""A DICOM node: studies in by C-STORE, results out by C-STORE, a queue on disk between them."""
