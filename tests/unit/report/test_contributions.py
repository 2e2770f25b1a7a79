"""What regions add to the predicted age, as the table of the report says it."""

from dataclasses import replace

from brainage.report.content import build_report
from tests.unit.report.test_report import MAP, findings


def test_what_regions_add_adds_up_on_paper():
    regions = (("ventricles", 20.04), ("frontal", 4.74))
    made = build_report(findings(attribution=replace(MAP, regions=regions)))
    assert [row.value for row in made.contributions[1:]] == [
        "+20.0 years", "+4.7 years", "+0.3 years", "57.0 years"
    ]  # fmt: skip
