"""Table S5: vision transformer, LFNN-ℓ against direct feedback alignment."""

from pipelines.study import jobs, reference
from pipelines.study.draw import dots
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("accuracy_percent", "seconds_per_epoch", "peak_memory_mb"),
    draw=dots("accuracy_percent"),
    reference=reference.S5,
)
