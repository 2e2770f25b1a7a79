"""Keyboard and screen reader: what axe-core finds, and the whole way without a mouse."""

import pytest

from tests.browser.pages import CANVAS, go_to, run_app, wait_for_answer, wait_until_drawn

pytestmark = pytest.mark.slow
FOCUSED = """() => {
    let at = document.activeElement;
    while (at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
    return [at.getAttribute("aria-label"), at.innerText].filter(Boolean).join(" ");
}"""
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    with run_app(models, tmp_path_factory.mktemp("app")) as running:
        yield running


def check(page):
    """Fail with a line for each violation of WCAG 2.2 AA that axe-core finds on the page."""
    wait_until_drawn(page)
    page.wait_for_timeout(500)  # the pale fade out
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe")
    found = axe.Axe().run(page, options=RULES).response["violations"]
    lines = [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]
    assert not lines, "\n".join(lines)


def tab_to(page, name):
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED).strip().endswith(name):
            page.wait_for_timeout(500)  # no hand is quicker; the tooltip passed on the way goes
            return
    pytest.fail(f"Tab does not come to {name!r}")


def test_pages_keep_the_rules_for_accessibility(page, browser):
    check(page)
    words = [{"name": f"{n}.nii", "mimeType": "text/plain", "buffer": b"words"} for n in range(2)]
    page.locator("input[type=file]").set_input_files(words)
    page.get_by_text("one person, over time").wait_for()
    check(page)
    page.get_by_role("button", name="Try the built-in sample").click()
    wait_for_answer(page)
    page.locator(CANVAS).wait_for()
    check(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Report as HTML").click()
    report = browser.new_page()
    report.set_content(download.value.path().read_text())
    check(report)
    report.close()
    for title in ("Models", "Compare methods", "Privacy and limits"):
        go_to(page, title)
        page.wait_for_timeout(3000)
        check(page)


def test_report_is_had_without_a_mouse(page, phantom_cohort):
    scan = next(phantom_cohort.parent.glob("sub-*/anat/*_T1w.nii.gz"))
    # Keys that come while the page is still being drawn are lost.
    page.get_by_role("button", name="Try the built-in sample").wait_for()
    wait_until_drawn(page)
    tab_to(page, "Upload")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(str(scan))
    page.get_by_role("button", name="Examine", exact=True).and_(page.locator(":enabled")).wait_for()
    tab_to(page, "Examine")
    page.keyboard.press("Enter")
    wait_for_answer(page)
    tab_to(page, "Report as PDF")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.path().read_bytes().startswith(b"%PDF")
