"""Which models are installed, how good they are, and for whom."""

from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

from app.settings import find_models
from brainage.evaluation.conformal import DEFAULT_LEVEL
from brainage.files import parse_json

CARD = "card.md"
_ORDER = {
    "subgroups": ("group", "value", "n", "mae_years", "mae_ci_low", "mae_ci_high", "bias_years"),
    "coverage": (
        *("group", "value", "n", "coverage", "coverage_ci_low", "coverage_ci_high"),
        "mean_width_years",
    ),
}

st.title("Models", anchor=False)
models = find_models()
if not models:
    st.info("No model is installed. `brainage train` makes one; BRAINAGE_MODELS names a folder.")
    st.stop()


def _facts(folder: Path) -> dict:
    try:
        return dict(parse_json((folder / "bundle.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _draw_coverage(coverage: pd.DataFrame) -> alt.LayerChart:
    """Coverage of each group with its interval, and the level that was promised."""
    base = alt.Chart(coverage.assign(label=coverage["group"] + " " + coverage["value"]))
    place = alt.Y("label:N", title=None, sort=None)
    share = alt.X("coverage:Q", title="Coverage").scale(domain=(0, 1))
    ends = {"x": "coverage_ci_low", "x2": "coverage_ci_high"}
    bars = base.mark_rule(color="#0072B2").encode(y=place, **ends)
    dots = base.mark_point(color="#0072B2", filled=True, size=70).encode(y=place, x=share)
    promised = base.mark_rule(color="#D55E00", strokeDash=[4, 4]).encode(x=alt.datum(DEFAULT_LEVEL))
    return bars + dots + promised


table = []
for model in models:
    facts = _facts(model.folder)
    metrics, cohort = facts.get("metrics", {}), facts.get("cohort", {})
    ages = cohort.get("train_age_range_years") or (None, None)
    table.append(
        {
            "model": model.name,
            "network": facts.get("network"),
            "method": facts.get("method"),
            "networks": facts.get("members", 1),
            "held-out error, years": metrics.get("mae_years"),
            "scans": cohort.get("n_train"),
            "youngest": ages[0],
            "oldest": ages[1],
        }
    )
st.dataframe(pd.DataFrame(table), hide_index=True)

position = st.selectbox("Show", range(len(models)), format_func=lambda n: models[n].name)
model = models[position or 0]
facts = _facts(model.folder)
for title, name in (("Error by subgroup", "subgroups"), ("Coverage of intervals", "coverage")):
    if facts.get(name):
        st.subheader(title, anchor=False)
        st.dataframe(pd.DataFrame(facts[name]), hide_index=True, column_order=_ORDER[name])
if facts.get("coverage"):
    st.altair_chart(_draw_coverage(pd.DataFrame(facts["coverage"])))
    st.caption("Share of held-out people whose age lies in the interval, with its 95 % interval.")
pictures = sorted(model.folder.glob("*.png"))
for picture in pictures:
    st.image(str(picture), caption=picture.stem.replace("_", " "), width=700)
card = model.folder / CARD
if card.is_file():
    with st.expander("Model card", expanded=not pictures):
        st.markdown(card.read_text(encoding="utf-8"))
