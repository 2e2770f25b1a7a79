"""Catalogue of the studies: the paper's tables and figures, and our own, one record each.

The YAML of the same name in `configs/study` gives title, data set, plan, seeds and budget.
"""

import math
from dataclasses import replace

from pipelines.study import brain_scans, jobs, reference
from pipelines.study.draw import classes, curves, dots, hilbert, over
from pipelines.study.pairing import paired_with
from pipelines.study.records import Study

COSTS = ("seconds_per_epoch", "peak_memory_mb")
BRAIN_AGE = Study(
    brain_scans.cross_validate,
    ("mae_years", "r", "bias_years", "first_block_mae_years"),
    dots("mae_years"),
)
ERROR_OVER_FRACTION = Study(
    jobs.train_both,
    ("error_percent", "train_error_percent", "parameters"),
    over("leader_fraction", "error_percent"),
)

STUDIES = {
    "s1": Study(
        jobs.train,
        ("accuracy_percent",),
        over("leader_fraction", "accuracy_percent"),
        reference.S1,
    ),
    "s2": replace(ERROR_OVER_FRACTION, reference=reference.S2),
    "s3": replace(ERROR_OVER_FRACTION, reference=reference.S3),
    "s5": Study(jobs.train, ("accuracy_percent", *COSTS), dots("accuracy_percent"), reference.S5),
    "s6": Study(jobs.train, ("error_percent", *COSTS), dots("error_percent"), reference.S6),
    "s7": replace(ERROR_OVER_FRACTION, reference=reference.S7),
    "s8": Study(jobs.train, ("accuracy_percent",), dots("accuracy_percent"), reference.S8),
    "s9": Study(
        jobs.train, ("error_percent",), over("follower_weight", "error_percent"), reference.S9
    ),
    "s10": Study(
        jobs.compare_workers,
        (
            "leader_follower_cosine",
            "followers_cosine",
            "shared_residual",
            "leader_follower_distance",
            "followers_distance",
            "leader_variance",
            "follower_variance",
            "accuracy_percent",
        ),
        dots("leader_follower_cosine"),
        reference.S10,
    ),
    "fig_s1": Study(
        jobs.watch_best_leader,
        ("accuracy_percent",),
        curves("epoch", "leader_fraction", "test accuracy of the best leader (%)"),
    ),
    "fig_s2": Study(
        jobs.compare_roles,
        (
            "both_percent",
            "leaders_only_percent",
            "followers_only_percent",
            "accuracy_percent",
        ),
        dots("both_percent", "leaders_only_percent", "followers_only_percent"),
    ),
    "fig_s4": Study(
        jobs.watch_activity,
        ("accuracy_percent",),
        curves("step", "leader_fraction", "change of a worker's output in a step"),
    ),
    "fig_s5": Study(
        jobs.watch_test,
        ("accuracy_percent", *COSTS),
        curves("epoch", "dataset", "test accuracy (%)", line="how"),
    ),
    "fig_s7": Study(
        jobs.train,
        ("accuracy_percent",),
        over("leader_fraction", "accuracy_percent"),
        reference.FIGURE_S7,
    ),
    "fig_s9": Study(jobs.map_image, ("order",), hilbert, trains=False),
    "fig_s10": Study(
        jobs.measure_complexity,
        ("width", "irregularity", "width_typical"),
        curves("alpha", "", "f(α)", line="dataset"),
        trains=False,
    ),
    "fig_s11": Study(
        jobs.complexity_and_leaders,
        ("leaders", "irregularity", "rank_correlation", "accuracy_percent"),
        classes("irregularity", "leaders needed, of all workers of a block"),
    ),
    "methods": Study(
        jobs.train_and_mark,
        ("error_percent", *COSTS, "parameters"),
        dots("error_percent"),
        refine=paired_with(method="bp", cut=math.nan, rate=math.nan),
    ),
    "followers": Study(
        jobs.train_to_pair,
        ("error_percent",),
        dots("error_percent"),
        refine=paired_with("seed", how="all lead"),
    ),
    "followers_brain_age": replace(BRAIN_AGE, refine=paired_with(how="all lead")),
    "yardsticks": Study(
        jobs.train,
        ("error_percent", *COSTS, "parameters"),
        dots("error_percent", source="published"),
        reference.YARDSTICKS,
        source="published",
    ),
    "adaptive": Study(
        jobs.find_leaders, ("accuracy_percent", "leaders_percent"), dots("accuracy_percent")
    ),
    "brain_age": replace(BRAIN_AGE, refine=paired_with(method="lfnn_l", leader_fraction=1.0)),
    "brain_age_methods": replace(BRAIN_AGE, refine=paired_with(how="bp")),
}
