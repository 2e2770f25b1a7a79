"""Table S10: how alike leaders and followers are."""

from pipelines.study import jobs, reference
from pipelines.study.draw import dots
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.compare_workers,
    metrics=(
        "leader_follower_cosine",
        "followers_cosine",
        "leader_follower_distance",
        "followers_distance",
        "leader_variance",
        "follower_variance",
        "accuracy_percent",
    ),
    draw=dots("leader_follower_cosine"),
    reference=reference.S10,
)
