"""Figure S1: test accuracy of the best leader of each layer over training."""

from pipelines.study import jobs
from pipelines.study.draw import curves
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.watch_best_leader,
    metrics=("accuracy_percent",),
    draw=curves("epoch", "leader_fraction", "test accuracy of the best leader (%)"),
)
