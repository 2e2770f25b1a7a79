"""Which maps lie in the folder of `explain`."""

from pathlib import Path

import numpy as np
import pandas as pd

from brainage.workflows.explain import _explain_all
from brainage.workflows.models import load_model

BUNDLE = Path(__file__).parents[2] / "fixtures" / "bundle_1"


def test_no_map_of_an_earlier_run_stays(tmp_path: Path) -> None:
    """A fourth map lay beside a table of three scans."""
    bundle = load_model(BUNDLE).bundle
    noise = np.random.default_rng(0).normal(size=(1, *bundle.config.preprocessing.shape))
    for name in ("0003.nii.gz", "0003.png", "notes.txt"):
        (tmp_path / name).write_text("old")
    table = pd.DataFrame({"scan_id": ["a"]})
    _explain_all(bundle, noise.astype(np.float16), table, tmp_path, "smoothgrad", 0)
    found = {path.name.split(".")[0] for path in tmp_path.iterdir()}
    assert found == {"0000", "mean", "notes", "regions", "scans"}
