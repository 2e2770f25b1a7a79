"""Table S8: ablation of the leader and the follower loss."""

from pipelines.study import jobs, reference
from pipelines.study.draw import dots
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("accuracy_percent",),
    draw=dots("accuracy_percent"),
    reference=reference.S8,
)
