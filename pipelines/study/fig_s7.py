"""Figure S7: accuracy over δ, one line a data set."""

from pipelines.study import jobs
from pipelines.study.draw import over
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("accuracy_percent",),
    draw=over("leader_fraction", "accuracy_percent"),
)
