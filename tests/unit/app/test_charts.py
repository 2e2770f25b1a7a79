"""Charts of the page."""

import pandas as pd

from page_parts.charts import draw_groups


def test_groups_stand_in_the_order_of_the_table_also_without_an_interval() -> None:
    table = pd.DataFrame(
        {"label": ["B", "C", "A"], "n": [9, 1, 8], "v": [2.0, 3.0, 4.0]}
        | {name: [1.0, None, 5.0] for name in ("low", "high")}
    )
    layers = draw_groups(table, "v", ("low", "high"), "Error", 2.5, "words").to_dict()["layer"]
    orders = [layer["encoding"]["y"]["sort"] for layer in layers if "y" in layer["encoding"]]
    assert orders == [["B", "C", "A"]] * 2
