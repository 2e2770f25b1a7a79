"""Adaptive leadership against fixed δ: accuracy, and the share of leaders that it settles on."""

from pipelines.study import jobs
from pipelines.study.draw import dots
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.find_leaders,
    metrics=("accuracy_percent", "leaders_percent"),
    draw=dots("accuracy_percent"),
)
