"""Reports as a web browser prints them: one page, whatever there is to say."""

import re
from dataclasses import replace

import pytest

from brainage.preprocessing.verdict import load_limits
from brainage.report import Typed, build_report
from brainage.report.findings import Earlier
from brainage.report.page_html import render_html
from tests.unit.report.test_report import MODEL, findings, mapped
from tests.unit.report.test_volume_curves import SEEN

pytestmark = pytest.mark.slow
CURVES = {"volume_curves": SEEN.model.facts["volume_curves"]}
REGIONS = tuple(
    (name, 1.0) for name in ("ventricles", "frontal", "insula", "temporal", "all other")
)
LONG = ("white matter does not lie where the template's does (0.31, expected at least 0.57)",) * 9
EARLIER = tuple(Earlier(f"2020-0{n}", "ok", 50.0 + n, 45.0 + n, f"c{n}") for n in range(1, 6))
BAD = {
    name: 2 * limit["high"] if "high" in limit else 0.2 * limit["low"]
    for name, limit in load_limits()["raw head"].items()
    if isinstance(limit, dict) and {"high", "low"} & set(limit)
}
WORST = {
    "verdict": "flagged", "reasons": LONG, "measures": BAD, "ood_percentile": 100.0,
    "earlier": EARLIER, "contradicted": ("age", "sex"),
}  # fmt: skip
CASES = {
    "usual": {},
    "flagged": {"verdict": "flagged", "reasons": LONG},
    "every measure unusual": {"verdict": "flagged", "reasons": LONG, "measures": BAD},
    "failed": {"verdict": "failed", "reasons": LONG, "measures": BAD},
    "earlier scans": {"earlier": EARLIER},
    "all of it": WORST,
    "no map": {"attribution": None},
}


@pytest.mark.parametrize("case", CASES)
def test_report_prints_on_one_page_with_its_pictures(case, browser):
    attribution = replace(mapped().attribution, regions=REGIONS)
    usual = findings(
        model=replace(MODEL, facts=MODEL.facts | CURVES),
        attribution=attribution,
        sex="F",
        volumes_ml=SEEN.volumes_ml,
        series="Series 3: looks T1-weighted, with contrast agent, 176 sagittal slices, 256 × 256 "
        "pixels; the only one that looks T1-weighted, of 12 series",
    )
    report = build_report(replace(usual, **CASES[case]), Typed("A Name", "S" * 20, "2026-01-01"))
    page = browser.new_page()
    page.set_default_timeout(240_000)
    page.set_content(render_html(report))
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    page.emulate_media(media="print")
    heights = page.evaluate("[...document.querySelectorAll('.columns img')].map(i => i.height)")
    page.close()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
    assert all(height > 50 for height in heights)
