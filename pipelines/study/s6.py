"""Table S6: VGG8b, LFNN-ℓ against predsim."""

from pipelines.study import jobs, reference
from pipelines.study.draw import dots
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("error_percent", "seconds_per_epoch", "peak_memory_mb"),
    draw=dots("error_percent"),
    reference=reference.S6,
)
