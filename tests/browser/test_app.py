"""The page in a real browser on a real server.

BRAINAGE_TEST_MODEL names a bundle to use instead of a small one trained on phantoms. Nothing here
keeps pictures: heads are of real people (`test_pictures.py` keeps those of phantoms).
"""

import gzip
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import nibabel as nib
import numpy as np
import pytest

from brainage.cohorts.sample import SAMPLE_WORDS
from brainage.serving.settings import ServerLimits
from tests.browser.pages import (
    AGE,
    ANSWER_MS,
    CANVAS,
    CHROMIUM,
    go_to,
    open_page,
    run_app,
    wait_for,
    wait_for_answer,
    wait_until_drawn,
)
from tests.dicom_helpers import SECRETS, make_head, write_series, zip_files

pytestmark = pytest.mark.slow
PDFTOTEXT = shutil.which("pdftotext")


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    """Process, address and log of a running page."""
    with run_app(models, tmp_path_factory.mktemp("app")) as running:
        yield running


def give(page, files, age=None):
    page.locator("input[type=file]").set_input_files(files)
    if age is not None:
        field = page.get_by_test_id("stNumberInputField")
        field.fill(str(age))
        field.press("Tab")
    page.get_by_role("button", name="Examine", exact=True).click()


def ixi_head(data_root):
    return sorted((data_root / "ixi_hh").glob("sub-*/anat/*_T1w.nii.gz"))[0]


def upload(name, content):
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def nifti(data):
    return gzip.compress(nib.Nifti1Image(data, np.eye(4)).to_bytes(), 1)


@pytest.mark.skipif(PDFTOTEXT is None, reason="no pdftotext (apt-get install poppler-utils)")
def test_head_gives_verdict_age_viewer_and_report(page, data_root, tmp_path):
    give(page, str(ixi_head(data_root)), age=63)
    clicked = time.monotonic()
    page.get_by_role("button", name="Cancel").wait_for()
    wait_for_answer(page)
    seconds, stages = time.monotonic() - clicked, page.get_by_text("Times: ").inner_text()
    sys.stdout.write(f"\nfrom the click to the answer {seconds:.1f} s. {stages}\n")  # pytest -s
    assert page.get_by_role("status").first.is_visible()
    assert "the age given, 63" in page.get_by_label("Answer").inner_text()
    assert "years" in page.locator(AGE).inner_text()
    canvas = page.locator(CANVAS)
    canvas.wait_for()
    before = canvas.get_attribute("data-mm")
    canvas.focus()
    page.keyboard.press("PageUp")
    wait_for(lambda: canvas.get_attribute("data-mm") != before, 60)
    page.get_by_label("Show map").uncheck()
    wait_for(lambda: canvas.get_attribute("data-overlay") == "off", 60)
    page.get_by_label("Show map").check()
    wait_for(lambda: canvas.get_attribute("data-overlay") == "on", 60)
    canvas.scroll_into_view_if_needed()
    with page.expect_download() as download:
        page.get_by_role("button", name="Report as PDF").click()
    path = tmp_path / "report.pdf"
    download.value.save_as(path)
    assert download.value.suggested_filename.startswith("brainage-")
    text = subprocess.run([PDFTOTEXT, str(path), "-"], capture_output=True, text=True, check=True)
    assert "Research use only" in text.stdout
    assert page.foreign == []


def test_browser_without_webgl_gets_a_simpler_viewer(browser, server):
    flags = ["--no-sandbox", "--disable-gpu", "--disable-3d-apis"]
    plain = browser.browser_type.launch(executable_path=CHROMIUM, args=flags)
    page = open_page(plain, server)
    page.get_by_role("button", name="Try the built-in sample").click()
    wait_for_answer(page)
    page.get_by_text("This browser has no WebGL").wait_for()
    frame = page.frame_locator("iframe")
    frame.locator("canvas").first.wait_for()
    assert page.foreign == []
    plain.close()


def test_scan_is_examined_by_keyboard_alone(page):
    page.get_by_role("button", name="Try the built-in sample").wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText").strip().endswith("sample"):
            break
    page.keyboard.press("Enter")
    wait_for_answer(page)
    canvas = page.locator(CANVAS)
    canvas.wait_for()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.shadowRoot?.activeElement?.tagName") == "CANVAS":
            break
        if page.evaluate("document.activeElement.tagName") == "CANVAS":
            break
    before = canvas.get_attribute("data-mm")
    page.keyboard.press("ArrowUp")
    wait_for(lambda: canvas.get_attribute("data-mm") != before, 60)


def test_sample_warns_that_it_is_synthetic_before_the_age(page):
    page.get_by_role("button", name="Try the built-in sample").click()
    wait_for_answer(page)
    warning, age = page.get_by_text(SAMPLE_WORDS), page.locator(AGE)
    assert warning.bounding_box()["y"] < age.bounding_box()["y"]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (820, 1180), (390, 844)])
def test_age_is_seen_without_scrolling(browser, server, width, height):
    page = open_page(browser, server, width, height)
    page.get_by_role("button", name="Try the built-in sample").click()
    wait_for_answer(page)
    for part in (page.locator(AGE), page.get_by_text("healthy people with this prediction")):
        box = part.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
    page.close()


def test_report_of_a_web_browser_prints_on_one_page(browser, page, tmp_path):
    page.get_by_role("button", name="Try the built-in sample").click()
    wait_for_answer(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Report as HTML").click()
    report = browser.new_page()
    report.set_content(download.value.path().read_text())
    pdf = report.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
    report.close()


def test_age_and_sex_of_a_dicom_header_are_filled_in_only_when_asked_for(page, tmp_path):
    files = write_series(tmp_path / "a", make_head(), age="071Y", PatientSex="F")
    path = zip_files(tmp_path / "head.zip", files)
    page.locator("input[type=file]").set_input_files(str(path))
    offer = page.get_by_role("button", name="Use 71 years, female from head.zip")
    offer.wait_for()
    field = page.get_by_test_id("stNumberInputField")
    assert field.input_value() == ""
    offer.click()
    wait_for(lambda: field.input_value() == "71.0", 60)


def test_dicom_zip_is_answered(page, tmp_path):
    series = write_series(tmp_path / "series", make_head())
    files = series if isinstance(series, list) else sorted((tmp_path / "series").iterdir())
    give(page, str(zip_files(tmp_path / "series.zip", files)))
    wait_for_answer(page)
    assert page.get_by_text("broke off").count() == 0


def test_series_of_a_dicom_zip_can_be_chosen_and_the_best_is_offered_first(page, tmp_path):
    files = write_series(tmp_path / "a", make_head(), number=2, description=" ".join(SECRETS))
    files += write_series(tmp_path / "b", make_head(), number=5, description="MPRAGE post Gd")
    files += write_series(tmp_path / "c", make_head(), number=7, skip=(9,))
    path = zip_files(tmp_path / "series.zip", files)
    page.locator("input[type=file]").set_input_files(str(path))
    box = page.get_by_role("combobox", name="Series of series.zip")
    box.wait_for()
    box.click()
    offered = page.get_by_role("option").all_inner_texts()
    assert [text.partition(":")[0] for text in offered] == ["Series 2", "Series 5"]
    page.get_by_role("option", name="Series 5: looks T1-weighted, with contrast agent").click()
    page.get_by_text("Not usable: Series 7").wait_for()
    page.get_by_role("button", name="Examine", exact=True).click()
    wait_for_answer(page)
    assert page.get_by_text("series.zip, series 5").count()
    assert not any(secret in page.content() for secret in SECRETS)


def test_age_typed_in_stays_with_its_file_while_others_come_and_go(page):
    files, field = page.locator("input[type=file]"), page.get_by_test_id("stNumberInputField")
    files.set_input_files([upload("first.nii", b"words")])
    field.fill("63")
    field.press("Tab")
    files.set_input_files([upload("second.nii", b"words")])
    age = page.get_by_role("spinbutton", name="Age at the scan of first.nii")
    age.wait_for()
    assert age.input_value() == "63.0"
    page.get_by_role("button", name="Remove second.nii").click()
    age = page.get_by_role("spinbutton", name="Age at the scan, years")
    age.wait_for()
    assert age.input_value() == "63.0"


BAD = {
    "four.nii.gz": nifti(np.zeros((8, 8, 8, 5), np.float32)),
    "notes.nii.gz": b"these are words, not a scan",
    "bomb.nii.gz": gzip.compress(bytes(2**28), 9),
    "../../etc/x.nii.gz": b"words again",
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_file_gets_a_line_and_no_age(page, server, name):
    give(page, [upload(name, BAD[name])])
    wait_for_answer(page)
    assert page.get_by_text("This file cannot be used.").is_visible()
    assert page.locator(AGE).count() == 0
    assert not Path("/etc/x.nii.gz").exists()
    assert name.rpartition("/")[2] not in server[2].read_text()


def test_ct_gives_no_age(page, data_root):
    scans = sorted(p for p in (data_root / "odd_scans").iterdir() if "ct" in p.name.lower())
    if not scans:
        pytest.skip("no CT at hand")
    give(page, str(scans[0]))
    wait_for_answer(page)
    assert page.locator(AGE).count() == 0


def test_file_above_the_limit_is_refused_by_the_server(server):
    address = f"{server[1]}/_stcore/upload_file/session/file"
    request = Request(address, method="PUT", headers={"Content-Length": str(300 * 2**20)})
    with pytest.raises(HTTPError) as refusal:
        urlopen(request, timeout=20)
    assert refusal.value.code == 413


def test_two_tabs_do_not_mix_people(browser, server, data_root):
    heads = sorted((data_root / "ixi_hh").glob("sub-*/anat/*_T1w.nii.gz"))[:2]
    tabs = [open_page(browser, server) for _ in heads]
    for tab, head, age in zip(tabs, heads, (33, 77), strict=True):
        give(tab, str(head), age=age)
    for tab, head, other, age in zip(tabs, heads, heads[::-1], (33, 77), strict=True):
        wait_for_answer(tab)
        assert tab.get_by_text(f"the age given, {age}.").count()
        assert tab.get_by_text(head.name).count() and not tab.get_by_text(other.name).count()
        tab.close()


def test_closed_tab_stops_its_work(browser, server, data_root):
    own = f"brainage-app-{server[0].pid}-*/tmp*"
    tab = open_page(browser, server)
    give(tab, str(ixi_head(data_root)))
    tab.get_by_role("button", name="Cancel").wait_for()
    folders = lambda: list(Path(tempfile.gettempdir()).glob(own))  # noqa: E731
    wait_for(folders, 60)
    tab.close()
    wait_for(lambda: not folders(), 60)


def long_file(head, folder):
    """The head in 42 MB: were one upload of ten to stay in the server, it would be seen."""
    image = nib.load(head)
    made = nib.Nifti1Image(np.asarray(image.dataobj, np.float64), image.affine)
    words = np.random.default_rng(0).bytes(2**25 - 100)
    made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", words))
    path = folder / head.name.removesuffix(".gz")
    nib.save(made, path)
    return str(path)


def examine_all(browser, server, files):
    """Give each file in a tab of its own, close all after their answers; the most memory."""
    tabs = [open_page(browser, server) for _ in files]
    for tab, file in zip(tabs, files, strict=True):
        tab.locator("input[type=file]").set_input_files(file)
    # All are there before the first is examined: clicks come faster than answers, uploads may not.
    for tab in tabs:
        tab.get_by_role("button", name="Examine", exact=True).click()
    if len(tabs) > 2:
        tabs[-1].get_by_text("in line").first.wait_for()
    for tab in tabs:
        tab.get_by_text("Examine another scan").wait_for(timeout=5 * ANSWER_MS)
        assert tab.get_by_text("broke off").count() == 0
    most = server[0].memory_info().rss
    for tab in tabs:
        tab.close()
    return most


def test_ten_uploads_are_all_answered_and_memory_returns(browser, server, data_root, tmp_path):
    heads = sorted((data_root / "ixi_hh").glob("sub-*/anat/*_T1w.nii.gz"))[:10]
    files = [long_file(head, tmp_path) for head in heads]
    # What the first answer imports stays for all that follow: that is no leak.
    examine_all(browser, server, files[:1])
    time.sleep(ServerLimits().keep_s + 15)
    rss = lambda: server[0].memory_info().rss  # noqa: E731
    before = rss()
    most = examine_all(browser, server, files)
    try:
        wait_for(lambda: rss() < 1.1 * before, 120)
    finally:
        figures = [round(value / 2**20) for value in (before, most, rss())]
        sys.stdout.write("\nserver, MB: {} before, {} with ten, {} after\n".format(*figures))


def test_foreign_host_is_refused_and_headers_are_there(server):
    with pytest.raises(HTTPError) as refusal:
        urlopen(Request(server[1], headers={"Host": "evil.example"}), timeout=20)
    assert refusal.value.code == 421
    headers = urlopen(server[1], timeout=20).headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_pages_are_chosen_in_a_narrow_window_and_nothing_covers_the_chosen_one(browser, server):
    page = open_page(browser, server, 390, 844)
    for title in ("Models", "Privacy and limits"):
        page.get_by_role("link", name=title).click()
        heading = page.get_by_role("heading", name=title).first
        heading.wait_for()
        wait_until_drawn(page)
        heading.click(timeout=5000, trial=True)  # fails where something lies above it
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_page_for_comparisons_is_offered_only_beside_a_tracker(page, server):
    page.get_by_role("link", name="Models").wait_for()
    assert page.get_by_role("link", name="Compare methods").count() == 0
    page.goto(f"{server.address}/compare")
    page.get_by_role("heading", name="Compare methods").first.wait_for()


@pytest.mark.parametrize("title", ["Models", "Compare methods", "Privacy and limits"])
def test_other_pages_open_without_foreign_requests(page, title):
    go_to(page, title)
    page.wait_for_timeout(2000)
    assert page.get_by_test_id("stException").count() == 0
    assert page.foreign == []
