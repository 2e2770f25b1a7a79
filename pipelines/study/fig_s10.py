"""Figure S10: multifractal spectrum of each data set: width w and irregularity α0."""

from pipelines.study import jobs
from pipelines.study.draw import curves
from pipelines.study.engine import Study

STUDY = Study(
    job=jobs.measure_complexity,
    metrics=("width", "irregularity", "width_typical"),
    draw=curves("alpha", "", "f(α)", line="dataset"),
    trains=False,
)
