"""Table S9: error over λ; the seed finds it flat, best at λ = 1, and gives no numbers."""

from pipelines.study import jobs
from pipelines.study.draw import over
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.train,
    metrics=("error_percent",),
    draw=over("follower_weight", "error_percent"),
)
