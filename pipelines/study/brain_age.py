"""Brain age over δ and K, cross-validated: whether following helps on scans."""

from pipelines.study import brain_scans as scans
from pipelines.study.draw import dots
from pipelines.study.engine import Study

STUDY = Study(
    job=scans.cross_validate,
    metrics=("mae_years", "r", "bias_years", "first_block_mae_years"),
    draw=dots("mae_years"),
    refine=scans.paired_with(method="lfnn_l", leader_fraction=1.0),
)
