"""Table S3: Tiny-ImageNet, error over δ."""

from pipelines.study import jobs, reference
from pipelines.study.draw import over
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("error_percent",),
    draw=over("leader_fraction", "error_percent"),
    reference=reference.S3,
)
