"""The page: navigation and what all pages share."""

from pathlib import Path

import streamlit as st

from brainage.serving.comparisons import may_have_comparisons
from page_parts.server import get_sessions
from page_parts.sessions import this_session

PAGES = Path(__file__).parent / "pages"
# A named icon would be fetched from another host.
ICON = Path(__file__).with_name("icon.png")
# Streamlit's captions are too pale to be read by everybody.
STYLE = """
.block-container{max-width:1180px;padding-top:1.2rem;padding-bottom:3rem}
[data-testid=stHeader]{background:none;pointer-events:none}
[data-testid=stCaptionContainer]{color:#57606a;opacity:1!important}
"""


def main() -> None:
    """Draw the chosen page."""
    get_sessions().note(this_session())
    st.set_page_config(page_title="brainage", page_icon=str(ICON), layout="wide")
    st.html(f"<style>{STYLE}</style>")
    compare = st.Page(PAGES / "compare.py", title="Compare methods", icon=":material/balance:")
    pages = [
        st.Page(PAGES / "scan.py", title="Examine a scan", icon=":material/radiology:"),
        st.Page(PAGES / "models.py", title="Models", icon=":material/deployed_code:"),
        compare,
        st.Page(PAGES / "about.py", title="Privacy and limits", icon=":material/shield:"),
    ]
    # Streamlit's own menu becomes a drawer in a narrow window, and covers the page chosen there.
    page = st.navigation(pages, position="hidden")
    with st.container(horizontal=True, gap="small"):
        for one in pages:
            # Of no use to clinicians, who have no tracker.
            if one is not compare or may_have_comparisons():
                st.page_link(one)
    st.caption("**Research use only. Not a diagnosis.**")
    page.run()
    st.divider()
    st.caption("Nothing is kept after you close this page. Predictions can be off by many years.")


main()
