"""Reproduce the paper's tables and figures, and our own: `brainage study NAME`.

`catalogue` holds a record of each study, `configs/study` its data set, plan, seeds and budget.
`damage`, `steps` and `voxel_check` are scripts on raw heads and the quality gate, run by
`python -m pipelines.study.NAME`.
"""
