"""The page: navigation and what all pages share."""

from pathlib import Path

import streamlit as st

from page_parts.server import get_sessions
from page_parts.sessions import this_session

PAGES = Path(__file__).parent / "pages"
# A named icon would be fetched from another host.
ICON = Path(__file__).with_name("icon.png")
# Streamlit's captions are too pale to be read by everybody.
STYLE = """
.block-container{max-width:1180px;padding-top:4.2rem;padding-bottom:3rem}
[data-testid=stCaptionContainer]{color:#57606a;opacity:1!important}
"""


def main() -> None:
    """Draw the chosen page."""
    get_sessions().note(this_session())
    st.set_page_config(page_title="brainage", page_icon=str(ICON), layout="wide")
    st.html(f"<style>{STYLE}</style>")
    page = st.navigation(
        [
            st.Page(PAGES / "scan.py", title="Examine a scan", icon=":material/radiology:"),
            st.Page(PAGES / "models.py", title="Models", icon=":material/deployed_code:"),
            st.Page(PAGES / "compare.py", title="Compare methods", icon=":material/balance:"),
            st.Page(PAGES / "about.py", title="Privacy and limits", icon=":material/shield:"),
        ],
        position="top",
    )
    st.caption("**Research use only. Not a diagnosis.**")
    page.run()
    st.divider()
    st.caption("Nothing is kept after you close this page. Predictions can be off by many years.")


main()
