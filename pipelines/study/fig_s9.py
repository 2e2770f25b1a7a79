"""Figure S9: an image, its Hilbert curve, and the signal along it."""

from pipelines.study import jobs
from pipelines.study.draw import hilbert
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.map_image,
    metrics=("order",),
    draw=hilbert,
    trains=False,
)
