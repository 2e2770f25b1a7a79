"""Figure S11: share of leaders that adaptive leadership finds, over the data set's complexity."""

from pipelines.study import jobs
from pipelines.study.draw import scatter
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.complexity_and_leaders,
    metrics=("leaders_percent", "irregularity", "width", "accuracy_percent"),
    draw=scatter("irregularity", "leaders_percent"),
)
