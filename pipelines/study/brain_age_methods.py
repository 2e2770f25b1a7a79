"""Brain age by LFNN-ℓ and backpropagation on a CNN and a vision transformer, cross-validated."""

from pipelines.study import brain_scans as scans
from pipelines.study.draw import dots
from pipelines.study.engine import Study

STUDY = Study(
    job=scans.cross_validate,
    metrics=("mae_years", "r", "bias_years", "first_block_mae_years"),
    draw=dots("mae_years"),
    refine=scans.paired_with(method="bp"),
)
