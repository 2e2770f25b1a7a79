"""Table S7: ImageNet and a subset of it, error over δ; the sweep of S3 on larger data."""

from pipelines.study import s3

STUDY = s3.STUDY
