"""Sentences of a report: the answer, what the interval means, what a map shows."""

from brainage.report.doubts import is_unlike
from brainage.report.findings import AttributionMap, Findings

RESEARCH_ONLY = "Research use only. Not a diagnosis."
_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
VERDICT_WORDS = {
    "ok": "Scan quality passed the checks",
    "flagged": "Look at the scan before using the result",
    "failed": "Scan failed the checks: no age is given",
}
CALIBRATE = (
    "The scan is unlike those of the model's cohort: percentile, corrected gap and the picture of "
    "the cohort may tell of the scanner rather than the person. With scans of 20 or more healthy "
    "people from your scanner, `brainage calibrate` makes the comparison fair."
)
REFERENCE_WORDS = "the MNI152 template, a blurred average of 152 brains"


def share_words(share: float) -> str:
    """Return a share as people count.

    Examples
    --------
    >>> share_words(0.9), share_words(0.95)
    ('nine of ten', '95 of 100')
    """
    tens = round(10 * share, 6)
    if tens == int(tens) and 0 < tens < 10:
        return f"{_NUMBERS[int(tens)]} of ten"
    return f"{100 * share:g} of 100"


def headline(findings: Findings) -> str:
    """Return the predicted age in whole years: decimals would promise what no interval keeps."""
    years = findings.predicted_age_years
    return "" if years is None else f"{years:.0f} years"


def interval_sentence(findings: Findings) -> str:
    """Say what the interval holds."""
    if findings.interval_years is None:
        return "There is no interval: the model is not calibrated for this level."
    low, high = findings.interval_years
    share = share_words(findings.level).capitalize()
    return f"{share} healthy people with this prediction are {low:.0f} to {high:.0f} years old."


def interval_note(findings: Findings) -> str:
    """Explain whom the interval's sentence speaks of."""
    if findings.interval_years is None:
        return ""
    return (
        "A range of true ages, of healthy people like those of the model's cohort whose scans look "
        "as old as this one. It is no range for the age of this person's brain."
    )


def gap_sentence(findings: Findings) -> str:
    """Say how far the predicted age lies from the age given, and whether that is usual."""
    gap, age = findings.brain_age_gap_years, findings.age_years
    if gap is None or age is None:
        return ""
    years = round(abs(gap))
    side = "above" if gap > 0 else "below"
    words = f"{years} year{'s' * (years != 1)} {side}" if years else "no different from"
    words = f"That is {words} the age given, {age:g}."
    if is_unlike(findings):
        return f"{words} Whether that is usual cannot be told of a scan unlike the cohort's."
    if findings.interval_years is None:
        return f"{words} Without an interval nothing tells whether that is usual."
    low, high = findings.interval_years
    if low <= age <= high:
        return f"{words} This is usual for the model: {age:g} lies within the range."
    return f"{words} This is unusual for the model: {age:g} lies outside the range."


def map_caption(attribution: AttributionMap) -> str:
    """Say what red and blue of a map mean, and what it adds up to."""
    if attribution.method == "smoothgrad":
        return (
            "Red: brighter here would look older. Blue: brighter here would look younger. A "
            "gradient (SmoothGrad), no contribution: the dark fluid of large ventricles is blue "
            "although it makes a brain look older."
        )
    start = (
        f"Where this brain differs from {REFERENCE_WORDS}: red adds years to the prediction and "
        "blue takes years away, which says nothing of what is normal"
    )
    predicted = round(attribution.predicted_age_years)
    reference = round(attribution.reference_age_years)
    if attribution.method == "occlusion":
        return (
            f"{start}. How the age changes where a cube of the template takes the place of this "
            f"brain's. Cubes overlap and do not add up. The template alone would get {reference} "
            "years."
        )
    return (
        f"{start}. The template alone would get {reference} years, which is no norm; the whole "
        f"map {_change_words(predicted - reference)}, which gives the predicted {predicted}."
    )


def _change_words(years: int) -> str:
    """Say what whole years do to an age."""
    if not years:
        return "changes nothing"
    count = f"{abs(years)} year{'s' * (abs(years) != 1)}"
    return f"adds {count}" if years > 0 else f"takes {count} away"
