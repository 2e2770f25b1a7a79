"""Charts of the pages: colours that all can tell apart, and words for those who cannot see."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6E7781"
# Okabe and Ito: told apart with every kind of colour blindness.
COLOURS = [BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
_INK = "#3D444D"
_ROW = 26


def by_method(methods: list[str], title: str | None = None) -> alt.Color:
    """Return the same colour for a method in every chart of a page; backpropagation is blue."""
    order = sorted(methods, key=lambda name: (name != "bp", name))
    scale = alt.Scale(domain=order, range=COLOURS)
    return alt.Color("method:N", scale=scale, legend=alt.Legend(title=title, orient="top"))


def draw_groups(
    table: pd.DataFrame, value: str, ends: tuple[str, str], title: str, line: float, words: str
) -> alt.LayerChart:
    """Dot and interval of each group, and a dashed line to hold them against.

    Parameters
    ----------
    table : pandas.DataFrame
        `label`, `n`, the value and its interval.
    value, ends : str and tuple of str
        Columns.
    title : str
        Of the axis.
    line : float
        Where the dashed line stands.
    words : str
        What the chart shows, for a screen reader.
    """
    base = alt.Chart(table)
    # A group without an interval has no bar, and would be put behind those that have one.
    order = list(table["label"])
    place = alt.Y("label:N", title=None, sort=order, axis=alt.Axis(labelLimit=200))
    shown = [alt.Tooltip("label:N", title="group"), alt.Tooltip("n:Q", title="people")]
    shown += [
        alt.Tooltip(f"{name}:Q", title=words_, format=".2f")
        for name, words_ in ((value, title), (ends[0], "from"), (ends[1], "to"))
    ]
    bars = base.mark_rule(color=BLUE, strokeWidth=2).encode(
        y=place, x=alt.X(f"{ends[0]}:Q", title=title), x2=f"{ends[1]}:Q", tooltip=shown
    )
    dots = base.mark_point(color=BLUE, filled=True, size=80, opacity=1).encode(
        y=place, x=alt.X(f"{value}:Q", title=title), tooltip=shown
    )
    rule = alt.Chart(pd.DataFrame({"at": [line]})).mark_rule(
        color=ORANGE, strokeDash=[5, 4], strokeWidth=2
    )
    chart = rule.encode(x="at:Q") + bars + dots
    return described(chart.properties(height=_ROW * len(table) + 40), words)


def draw_calibration(people: pd.DataFrame, words: str) -> alt.LayerChart:
    """Age against predicted age, each held-out person, and means in bands of prediction.

    Parameters
    ----------
    people : pandas.DataFrame
        `age_years` and `predicted_age_years`.
    words : str
        What the chart shows, for a screen reader.
    """
    values = pd.concat([people["age_years"], people["predicted_age_years"]])
    low, high = float(values.min()) - 2, float(values.max()) + 2
    scale = alt.Scale(domain=[low, high], nice=False)
    band = (people["predicted_age_years"] // 10 * 10).rename("band")
    means = people.groupby(band).agg(
        predicted_age_years=("predicted_age_years", "mean"),
        age_years=("age_years", "mean"),
        n=("age_years", "size"),
    )
    x = alt.X("predicted_age_years:Q", title="Predicted age, years", scale=scale)
    y = alt.Y("age_years:Q", title="Age, years", scale=scale)
    dots = alt.Chart(people).mark_circle(color=GREY, opacity=0.35, size=26).encode(x=x, y=y)
    middle = alt.Chart(means[means["n"] >= 5].reset_index())
    tips = [
        alt.Tooltip("predicted_age_years:Q", title="mean prediction", format=".1f"),
        alt.Tooltip("age_years:Q", title="mean age", format=".1f"),
        alt.Tooltip("n:Q", title="people"),
    ]
    lines = middle.mark_line(color=BLUE, point={"size": 90, "filled": True, "color": BLUE})
    ideal = pd.DataFrame({"predicted_age_years": [low, high], "age_years": [low, high]})
    dashed = alt.Chart(ideal).mark_line(color=ORANGE, strokeDash=[5, 4]).encode(x=x, y=y)
    chart = dots + dashed + lines.encode(x=x, y=y, tooltip=tips)
    return described(chart.properties(height=420), words)


def described(chart: Any, words: str) -> Any:
    """Describe the chart for screen readers, drawn as SVG; nothing to click leads elsewhere."""
    options: Mapping[str, Any] = {"renderer": "svg", "actions": False}
    made = chart.properties(description=words, usermeta={"embedOptions": options})
    # Streamlit's own letters are too pale to be read by everybody.
    made = made.configure_axis(labelColor=_INK, titleColor=_INK, labelFontSize=12)
    return made.configure_legend(labelColor=_INK, titleColor=_INK, labelFontSize=13)
