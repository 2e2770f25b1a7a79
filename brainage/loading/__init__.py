"""Make batches of prepared scans and images, augmented."""
