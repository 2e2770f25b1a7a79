"""What `Model.predict` gives back, with a network that needs no time."""

import numpy as np
import pandas as pd
import pytest

from brainage.inference.model import Model
from brainage.inference.predict import ADDED_COLUMNS, Predictions
from brainage.types import LedgerEntry


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model that says how many scans a table has, and cannot use the first."""

    def predict_table(self: Model, scans: pd.DataFrame, **_: object) -> Predictions:
        first, *others = scans["scan_id"]
        numbers = dict.fromkeys([*ADDED_COLUMNS, "brain_age_gap_years"], np.nan)
        table = scans[1:].assign(predicted_age_years=float(len(scans)), **numbers)
        entries = [LedgerEntry(first, "read", "failed", "damaged")]
        return Predictions(table, [*entries, *(LedgerEntry(n, "prepare", "ok") for n in others)])

    monkeypatch.setattr(Model, "predict_table", predict_table)
    return Model(bundle=None)  # type: ignore[arg-type]


def test_scans_by_path_come_in_the_order_given_with_names_and_paths(model: Model) -> None:
    paths = ["b/T1.nii", "a/T1.nii", "a/sub-1_T1w.nii", "a/T1.nii"]
    got = model.predict(paths)
    assert got["path"].tolist() == paths
    assert got["scan_id"].tolist() == ["b/T1", "a/T1", "sub-1", "a/T1"]
    assert got["verdict"].tolist() == ["failed", "ok", "ok", "ok"]
    assert got["predicted_age_years"].fillna(0).tolist() == [0, 3, 3, 3]
