"""Figure S5: accuracy over epochs for several numbers of blocks K."""

from pipelines.study import jobs
from pipelines.study.draw import curves
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("accuracy_percent", "seconds_per_epoch", "peak_memory_mb"),
    draw=curves("epoch", "blocks", "validation accuracy (%)"),
)
