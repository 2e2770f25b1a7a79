"""The picture of one person's scans over time, and its words."""

import io

from PIL import Image

from brainage.serving.timeline import draw_timeline


def point(age, predicted, low=None, high=None):
    return {
        "age_years": age,
        "predicted_age_years": predicted,
        "interval_low_years": low,
        "interval_high_years": high,
    }


def test_scans_stand_in_order_of_age_whatever_order_they_came_in():
    png, words, _ = draw_timeline([point(66.0, 70.0, 55.0, 85.0), point(61.0, 64.0)])
    assert Image.open(io.BytesIO(png)).format == "PNG"
    assert words.index("age 61.0, predicted 64.0") < words.index("age 66.0, predicted 70.0")


def test_the_caption_tells_what_chance_gives_where_the_model_knows():
    points = [point(61.0, 64.0), point(66.0, 70.0)]
    assert "up to 3.9 years" in draw_timeline(points, 3.88)[2]
    assert "may be chance" in draw_timeline(points)[2]
