"""The seed's tables and figures, one module each: `brainage study NAME`.

A module with a YAML of its name in `configs/study` names its `STUDY`: the job of one run, the
metrics, the seed's numbers and the picture; the YAML gives data set, plan, seeds and budget.
The others are scripts on raw heads and the quality gate, run by `python -m pipelines.study.NAME`.
"""
