"""Figure S4: change of the workers' outputs in a step, leaders and followers."""

from pipelines.study import jobs
from pipelines.study.draw import curves
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.watch_activity,
    metrics=("accuracy_percent",),
    draw=curves("step", "leader_fraction", "change of a worker's output in a step"),
)
