"""All methods on one network, equal epochs: accuracy, time and peak memory."""

from pipelines.study import jobs
from pipelines.study.draw import dots
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("accuracy_percent", "seconds_per_epoch", "peak_memory_mb", "parameters"),
    draw=dots("accuracy_percent"),
)
