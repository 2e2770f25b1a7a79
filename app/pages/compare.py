"""Backpropagation against local learning: the numbers of `brainage compare`, from MLflow."""

from datetime import datetime

import altair as alt
import pandas as pd
import streamlit as st

from brainage import BrainageError
from brainage.serving.comparisons import (
    Comparison,
    comparison_markdown,
    list_comparisons,
    load_comparison,
    mlflow_page,
)
from page_parts.charts import by_method, described

COSTS = {
    "mae_years": ("Test error, years", ".2f"),
    "seconds_per_epoch": ("Seconds per epoch", ".2f"),
    "peak_memory_mb": ("Peak memory, MB", ".0f"),
}
TIMES = {"epoch": "Epoch", "train_seconds_cumulative": "Seconds of training"}


@st.cache_data(ttl=30, show_spinner="Reading MLflow …", scope="session")
def _found() -> list[tuple[str, str, float, str]]:
    return [(run.run_id, run.name, run.started, run.page) for run in list_comparisons()]


@st.cache_data(show_spinner="Reading the comparison …", scope="session")
def _load(run_id: str) -> Comparison:
    return load_comparison(run_id)


def _draw_costs(runs: pd.DataFrame, metric: str, by_seed: bool) -> alt.LayerChart:
    """One dot a run, and the median of the runs of a method, or of each of its seeds."""
    title, style = COSTS[metric]
    methods = list(runs["method"].unique())
    base = alt.Chart(runs).encode(
        y=alt.Y("method:N", title=None), color=by_method(methods).legend(None)
    )
    if by_seed:
        base = base.encode(yOffset="seed:N")
    value = alt.X(f"{metric}:Q", title=title, axis=alt.Axis(tickCount=5))
    value = value.scale(zero=metric != "mae_years")
    tips = ["method", "seed", "fold", alt.Tooltip(f"{metric}:Q", title=title, format=style)]
    dots = base.mark_point(size=60, opacity=0.8, filled=True).encode(x=value, tooltip=tips)
    height = 14 if by_seed else 28
    middle = base.mark_tick(thickness=3, size=height).encode(x=f"median({metric}):Q")
    rows = len(runs.groupby(["method", "seed"])) if by_seed else len(methods)
    medians = runs.groupby("method")[metric].median()
    words = "; ".join(f"{method} {medians[method]:{style}}" for method in methods)
    chart = (dots + middle).properties(height=60 + (26 if by_seed else 44) * rows)
    return described(chart, f"{title}, median over runs: {words}")


def _draw_curves(curves: pd.DataFrame, time: str, by_seed: bool) -> alt.Chart:
    """Mean validation error of a method, or of each of its seeds, over epochs or seconds."""
    keys = ["method", *(["seed"] if by_seed else [])]
    columns = ["val_mae_years", "train_seconds_cumulative"]
    means = curves.groupby([*keys, "epoch"], as_index=False)[columns].mean()
    tips = [*keys, "epoch", alt.Tooltip("val_mae_years:Q", title="error, years", format=".2f")]
    chart = (
        alt.Chart(means)
        .mark_line(strokeWidth=2.5, point=True)
        .encode(
            x=alt.X(f"{time}:Q", title=TIMES[time], axis=alt.Axis(tickMinStep=1)).scale(
                zero=time != "epoch"
            ),
            y=alt.Y("val_mae_years:Q", title="Validation error, years"),
            color=by_method(list(means["method"].unique())),
            tooltip=tips,
        )
    )
    if by_seed:
        chart = chart.encode(strokeDash=alt.StrokeDash("seed:N", legend=alt.Legend(orient="top")))
    last = means[means["epoch"] == means["epoch"].max()].groupby("method")["val_mae_years"].mean()
    words = "; ".join(f"{method} {value:.1f} years" for method, value in last.items())
    return described(chart.properties(height=380), f"Validation error, at the end: {words}")


st.title("Compare methods", anchor=False)
st.markdown(
    "Backpropagation (bp) sends one error through the whole network. Local learning (lfnn_l) cuts "
    "the network into blocks that learn each by itself. All methods had the same scans, folds, "
    "seeds and epochs."
)
try:
    found = _found()
except BrainageError as error:
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
chosen = found[position or 0]
run_id, page = chosen[0], chosen[-1]
try:
    comparison = _load(run_id)
except BrainageError as error:
    st.warning(str(error))
    st.stop()

st.markdown(comparison_markdown(comparison.summary))
by_seed = st.toggle("Group by seed", help="Show each random start of a method by itself.")
for column, cost in zip(st.columns(3), COSTS, strict=True):
    column.altair_chart(_draw_costs(comparison.runs, cost, by_seed))
st.caption("A dot is one run, on one fold with one seed; a bar is the median.")
st.header("How fast does each learn?", anchor=False)
time = st.radio("Against", list(TIMES), format_func=lambda name: TIMES[name], horizontal=True)
st.altair_chart(_draw_curves(comparison.curves, time, by_seed))
if server := mlflow_page():
    st.link_button("Open this comparison in MLflow", f"{server}/{page}")
else:
    st.caption("`brainage mlflow` opens these runs in MLflow's own pages.")
