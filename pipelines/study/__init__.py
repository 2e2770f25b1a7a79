"""The seed's tables and figures, one module each: `brainage study NAME`.

A module names its `STUDY`: the job of one run, the metrics, the seed's numbers and the picture.
Data set, plan, seeds and budget lie in `configs/study/NAME.yaml`.
"""
