"""Scans of one person in the order of age."""

import io
from collections.abc import Sequence

from brainage.plotting.canvas import BLUE, DPI, GREY, build_figure
from brainage.types import Json


def draw_timeline(
    points: Sequence[Json], detectable_years: float | None = None
) -> tuple[bytes, str, str]:
    """PNG, words for those who cannot see it, and caption.

    Parameters
    ----------
    points : sequence of dict
        Results of reports with `age_years`, `predicted_age_years` and, where known, the interval.
    detectable_years : float, optional
        Smallest change of the gap that is no chance, where the model knows it.
    """
    ordered = sorted(points, key=lambda point: float(point["age_years"]))
    figure, (axes,) = build_figure(
        (1, 1), (7.5, 3.6), "Predicted age over time", "", synthetic=False
    )
    ages = [point["age_years"] for point in ordered]
    axes.plot(ages, ages, color=GREY, linestyle="--", linewidth=1, label="predicted = age")
    axes.plot(ages, [point["predicted_age_years"] for point in ordered], color=BLUE, marker="o")
    for point in ordered:
        if point["interval_low_years"] is not None:
            bounds = point["interval_low_years"], point["interval_high_years"]
            axes.plot([point["age_years"]] * 2, bounds, color=BLUE, linewidth=2, alpha=0.5)
    axes.set_xlabel("age at the scan, years")
    axes.set_ylabel("predicted age, years")
    axes.legend(frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    words = "; ".join(
        f"age {point['age_years']:.1f}, predicted {point['predicted_age_years']:.1f}"
        for point in ordered
    )
    caption = "Bars are intervals of single predictions. "
    if detectable_years is None:
        caption += "Differences within them may be chance."
    else:
        caption += f"A gap that changes by up to {detectable_years:.1f} years may do so by chance."
    return stream.getvalue(), f"Timeline: {words}", caption
