"""Which models are installed, how good they are, and for whom."""

import json
from pathlib import Path

import pandas as pd
import streamlit as st

from app.settings import find_models

CARD = "card.md"

st.title("Models", anchor=False)
models = find_models()
if not models:
    st.info("No model is installed. `brainage train` makes one; BRAINAGE_MODELS names a folder.")
    st.stop()


def _facts(folder: Path) -> dict:
    try:
        return dict(json.loads((folder / "bundle.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


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
subgroups = facts.get("metrics", {}).get("subgroups")
if subgroups:
    st.subheader("By subgroup", anchor=False)
    st.dataframe(pd.DataFrame(subgroups), hide_index=True)
pictures = sorted(model.folder.glob("*.png"))
for picture in pictures:
    st.image(str(picture), caption=picture.stem.replace("_", " "), width=700)
card = model.folder / CARD
if card.is_file():
    with st.expander("Model card", expanded=not pictures):
        st.markdown(card.read_text(encoding="utf-8"))
