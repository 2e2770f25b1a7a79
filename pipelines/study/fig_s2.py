"""Figure S2: accuracy when only leaders, or only followers, feed the next layer."""

from pipelines.study import jobs
from pipelines.study.draw import dots
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.compare_roles,
    metrics=("both_percent", "leaders_only_percent", "followers_only_percent", "accuracy_percent"),
    draw=dots("both_percent", "leaders_only_percent", "followers_only_percent"),
)
