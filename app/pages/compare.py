"""Backpropagation against local learning: the numbers of `brainage compare`, from MLflow."""

from datetime import datetime
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

from brainage.errors import TrackingError
from brainage.tracking import Comparison, list_comparisons, load_comparison, resolve_uri

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
COSTS = {
    "mae_years": "Test error, years",
    "seconds_per_epoch": "Seconds per epoch",
    "peak_memory_mb": "Peak memory, MB",
}


@st.cache_data(ttl=30, show_spinner="Reading MLflow …", scope="session")
def _found() -> list[tuple[str, str, float, str]]:
    return [(run.run_id, run.name, run.started, run.page) for run in list_comparisons()]


@st.cache_data(show_spinner="Reading the comparison …", scope="session")
def _load(run_id: str) -> Comparison:
    return load_comparison(run_id)


def _dots(runs: pd.DataFrame, metric: str, by_seed: bool) -> alt.LayerChart:
    base = alt.Chart(runs).encode(
        y=alt.Y("method:N", title=None),
        color=alt.Color("method:N", legend=None, scale=alt.Scale(range=COLOURS)),
    )
    value = alt.X(f"{metric}:Q", title=COSTS[metric]).scale(zero=metric != "mae_years")
    shape = {"shape": alt.Shape("seed:N", title="seed")} if by_seed else {}
    points = base.mark_point(size=70, opacity=0.8).encode(
        x=value, tooltip=["method", "seed", "fold", metric], **shape
    )
    middle = base.mark_tick(thickness=3, size=26).encode(x=f"median({metric}):Q")
    return (points + middle).properties(height=40 + 34 * runs["method"].nunique())


def _curves(curves: pd.DataFrame, by_seed: bool) -> alt.Chart:
    keys = ["method", "epoch", *(["seed"] if by_seed else [])]
    means = curves.groupby(keys, as_index=False)["val_mae_years"].mean()
    chart = (
        alt.Chart(means)
        .mark_line()
        .encode(
            x=alt.X("epoch:Q", title="Epoch"),
            y=alt.Y("val_mae_years:Q", title="Validation error, years"),
            color=alt.Color("method:N", scale=alt.Scale(range=COLOURS)),
            tooltip=[*keys, "val_mae_years"],
        )
    )
    return chart.encode(strokeDash="seed:N") if by_seed else chart


st.title("Compare methods", anchor=False)
try:
    found = _found()
except TrackingError as error:
    st.info(f"No comparisons can be shown: {error}")
    st.stop()
if not found:
    st.info("No comparison is in MLflow yet. `brainage compare --cohort …` makes one.")
    st.stop()
position = st.selectbox(
    "Comparison",
    range(len(found)),
    format_func=lambda n: f"{found[n][1]}, {datetime.fromtimestamp(found[n][2]):%Y-%m-%d %H:%M}",
)
run_id, _, _, page = found[position or 0]
try:
    comparison = _load(run_id)
except TrackingError as error:
    st.warning(str(error))
    st.stop()

st.dataframe(comparison.summary, hide_index=True)
st.caption(
    "As `brainage compare` wrote them: means with 95 % intervals over people, differences from "
    "backpropagation (bp) paired by person; seconds and memory are medians over runs."
)
by_seed = st.toggle("Group by seed", help="Tell the seeds of a method apart.")
for column, metric in zip(st.columns(3), COSTS, strict=True):
    column.altair_chart(_dots(comparison.runs, metric, by_seed), width="stretch")
st.altair_chart(_curves(comparison.curves, by_seed), width="stretch")
address = resolve_uri(None, Path.cwd()) or ""
if address.startswith("http"):
    st.link_button("Open in MLflow", f"{address.rstrip('/')}/{page}")
else:
    st.caption("`brainage mlflow` opens these runs in MLflow's own pages.")
