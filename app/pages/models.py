"""Which models are installed, how good they are, and for whom."""

from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd
import streamlit as st

from brainage.serving.model_facts import (
    DEFAULT_LEVEL,
    age_range,
    baseline_table,
    coverage_groups,
    error_groups,
    held_out_metrics,
    held_out_people,
    overview_table,
    read_facts,
)
from brainage.serving.model_list import find_models
from brainage.types import Json
from page_parts.charts import BLUE, GREY, described, draw_calibration, draw_groups

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig

CARD = "card.md"
_SCORES: "dict[str, ColumnConfig | str | None]" = {
    "label": "Group",
    "n": st.column_config.NumberColumn("People"),
    "mae_years": st.column_config.NumberColumn("Mean error, years", format="%.1f"),
    "mae_ci_low": st.column_config.NumberColumn("from", format="%.1f"),
    "mae_ci_high": st.column_config.NumberColumn("to", format="%.1f"),
    "bias_years": st.column_config.NumberColumn("Mean gap, years", format="%+.1f"),
    "coverage": st.column_config.NumberColumn("Ages in the interval", format="percent"),
    "coverage_ci_low": st.column_config.NumberColumn("from", format="percent"),
    "coverage_ci_high": st.column_config.NumberColumn("to", format="percent"),
    "mean_width_years": st.column_config.NumberColumn("Mean width, years", format="%.1f"),
}


def _show_summary(facts: Json) -> None:
    metrics, cohort = held_out_metrics(facts), facts.get("cohort", {})
    error = metrics.get("mae_years")
    covered = metrics.get("intervals", {})
    places = st.columns(4)
    places[0].metric(
        "Mean error",
        "not known" if error is None else f"{error:.1f} years",
        help="How far predictions lie from the age, on average, in people whom the networks had "
        "not seen. No correction by the age itself.",
    )
    places[1].metric("Trained on", f"{cohort.get('n_train', '?')} scans")
    places[2].metric("Their ages", age_range(facts) or "not known")
    places[3].metric(
        f"{100 * DEFAULT_LEVEL:.0f} % interval spans",
        f"{covered['mean_width_years']:.0f} years" if covered else "not known",
        help="The range that should hold the age of nine in ten people. Wide means: one "
        "prediction says little about one person.",
    )
    if error is not None:
        low, high = metrics["mae_ci_low"], metrics["mae_ci_high"]
        known = "no interval" if low is None else f"95 % interval: {low:.1f} to {high:.1f} years"
        words = f"Mean error with {known}, people tested: {metrics['n']}."
        if cohort.get("synthetic"):
            words += " All are synthetic phantoms: real people cannot be judged by this model."
        st.caption(words)


def _show_baselines(facts: Json) -> None:
    table = baseline_table(facts)
    if table.empty:
        return
    st.header("Is it better than something simple?", anchor=False)
    base = alt.Chart(table).encode(
        y=alt.Y("what:N", title=None, sort=None, axis=alt.Axis(labelLimit=260)),
        x=alt.X("years:Q", title="Mean error, years", axis=alt.Axis(tickCount=6)),
    )
    mine = alt.condition(alt.datum.what == "This model", alt.value(BLUE), alt.value(GREY))
    bars = base.mark_bar(size=18).encode(color=mine)
    text = base.mark_text(align="left", dx=5).encode(text=alt.Text("years:Q", format=".1f"))
    words = "; ".join(f"{what}: {years:.1f} years" for what, years in table.to_numpy())
    st.altair_chart(
        described((bars + text).properties(height=alt.Step(34)), f"Mean error. {words}")
    )


def _say(table: pd.DataFrame, value: str, unit: str) -> str:
    rows: list[Any] = table.to_dict("records")
    return "; ".join(f"{row['label']} {row[value]:.2f}{unit}" for row in rows)


def _show_groups(facts: Json) -> None:
    errors, covered = error_groups(facts), coverage_groups(facts)
    left, right = st.columns(2, gap="large")
    if not errors.empty:
        left.header("For whom is it good?", anchor=False)
        ends = ("mae_ci_low", "mae_ci_high")
        title, words = "Mean error, years", _say(errors, "mae_years", " years")
        whole = facts["metrics"]["mae_years"]
        left.altair_chart(
            draw_groups(errors, "mae_years", ends, title, whole, f"Mean error by group: {words}")
        )
        left.caption("Bars: 95 % intervals. Dashed: everybody.")
    if not covered.empty:
        right.header("Do the intervals keep their word?", anchor=False)
        ends = ("coverage_ci_low", "coverage_ci_high")
        title, words = "Share of ages in the interval", _say(covered, "coverage", "")
        chart = draw_groups(covered, "coverage", ends, title, DEFAULT_LEVEL, f"Coverage: {words}")
        right.altair_chart(chart)
        right.caption(f"Bars: 95 % intervals. Dashed: the promised {100 * DEFAULT_LEVEL:.0f} %.")
    for name, table in (("The errors in numbers", errors), ("The intervals in numbers", covered)):
        if not table.empty:
            with st.expander(name):
                order = [column for column in _SCORES if column in table]
                st.dataframe(table, hide_index=True, column_order=order, column_config=_SCORES)


def _show_calibration(facts: Json) -> None:
    people = held_out_people(facts)
    if people.empty:
        st.caption("This model keeps no held-out people: no calibration plot.")
        return
    st.header("Calibration: what age do people with a prediction have?", anchor=False)
    words = f"Age against predicted age of {len(people)} held-out people, with means by decade"
    left, right = st.columns([3, 2], gap="large")
    left.altair_chart(draw_calibration(people, words))
    right.markdown(
        "Each dot is a person whom the network had not seen, spread over a cell of five years of "
        "age by two years of gap. Blue: the mean age of people with a prediction in one decade. "
        "On the dashed line the two agree; above it people are older than predicted, below it "
        "younger."
    )


st.title("Models", anchor=False)
models = find_models()
if not models:
    st.info("No model is installed. `brainage train` makes one; BRAINAGE_MODELS names a folder.")
    st.stop()
st.markdown("A model is as good as on people like yours: look at ages and scans before its error.")
if len(models) > 1:
    st.dataframe(
        overview_table(models),
        hide_index=True,
        column_config={
            "Mean error, years": st.column_config.NumberColumn(format="%.1f"),
        },
    )
position = st.selectbox("Show", range(len(models)), format_func=lambda n: models[n].name)
chosen = models[position or 0]
content = read_facts(chosen.folder)
_show_summary(content)
_show_baselines(content)
_show_groups(content)
_show_calibration(content)
for picture in sorted(chosen.folder.glob("*.png")):
    st.image(str(picture), caption=picture.stem.replace("_", " "), width=700)
card = chosen.folder / CARD
if card.is_file():
    with st.expander("Model card: everything about this model"):
        st.markdown(card.read_text(encoding="utf-8"))
