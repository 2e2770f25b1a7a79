"""Compare an exported model with torch on real scans, in an environment that has no torch.

``python -m pipelines.speed.portable --data ../shared/data --output DIR`` exports the released
model, makes a new environment as docs/how-to/deployment.md says, prepares heads of IXI and brains
of OASIS-1, and predicts them by torch here and by onnxruntime there. Nothing else should run.
"""

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path
from statistics import median

import pandas as pd

from brainage.inference.portable import NETWORK
from brainage.types import Json
from brainage.workflows.console import run_as_command, say
from brainage.workflows.export import export
from brainage.workflows.models import load_model
from brainage.workflows.prepare import prepare
from brainage.workflows.results import write_table

ROOT = Path(__file__).parents[2]
SCANS = {"ixi_hh/sub-*/anat/*_T1w.nii.gz": 10, "oasis1/t1/*.nii.gz": 5}
# Runs where torch is not installed: rows of predictions, seconds of each, whether torch came along.
PREDICT = """
import json, sys, time
from brainage.inference.portable import PortableModel
model, rows, seconds = PortableModel(sys.argv[1], threads=1), [], []
for path in sys.argv[2:]:
    start = time.perf_counter()
    rows += model.predict([path])
    seconds.append(time.perf_counter() - start)
print(json.dumps({"rows": rows, "seconds": seconds, "modules": sorted(sys.modules)}))
"""


def main() -> None:
    """Compare, and write portable.csv with its scans.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    output: Path = options.output.absolute()
    export(None, output / "exported")
    python = make_environment(output / "environment")
    paths = prepare_scans(choose_scans(options.data), output)
    ours = load_model().predict(paths, cache=output / "cache")
    theirs = predict_there(python, output / "exported", paths)
    scans = compare(ours, theirs)
    row = {
        "scans": len(scans),
        "largest_difference_years": scans["difference_years"].abs().max(),
        "seconds_a_scan": round(median(scans["seconds"]), 3),
        "installed_mb": round(folder_mb(output / "environment" / "lib")),
        "exported_mb": round((output / "exported" / NETWORK).stat().st_size / 1e6, 1),
        "has_torch": "torch" in theirs["modules"],
    }
    write_table(scans, output / "scans.csv")
    write_table(pd.DataFrame([row]), output / "portable.csv")
    say(", ".join(f"{name} {value}" for name, value in row.items()))


def choose_scans(data: Path) -> list[Path]:
    """Choose scans at equal steps through each cohort."""
    chosen = []
    for pattern, count in SCANS.items():
        found = sorted(data.glob(pattern))
        chosen += found[:: max(1, len(found) // count)][:count]
    return chosen


def make_environment(folder: Path) -> Path:
    """Make an environment with numpy, onnxruntime and this brainage; returns its interpreter."""
    venv.create(folder, clear=True, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "numpy", "onnxruntime"], check=True)
    subprocess.run([*pip, "--no-deps", str(ROOT)], check=True)
    return python


def prepare_scans(scans: list[Path], output: Path) -> list[str]:
    """Prepare scans as the command does; returns the volumes in MNI space."""
    names = [path.name.split(".")[0].replace("_T1w", "") for path in scans]
    table = pd.DataFrame({"subject_id": names, "path": [str(path.absolute()) for path in scans]})
    table["age"] = 50.0  # a cohort wants ages, no prediction does
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "cohort.csv", index=False)
    prepare(output / "cohort.csv", output / "prepared", cache=output / "cache")
    return sorted(map(str, (output / "prepared").glob("sub-*/**/*_desc-preproc_T1w.nii.gz")))


def predict_there(python: Path, exported: Path, paths: list[str]) -> Json:
    """Predict in another environment."""
    command = [str(python), "-I", "-c", PREDICT, str(exported), *paths]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told: Json = json.loads(done.stdout)
    return told


def compare(ours: pd.DataFrame, theirs: Json) -> pd.DataFrame:
    """Put both predictions of each scan side by side."""
    there = pd.DataFrame(theirs["rows"])
    return pd.DataFrame(
        {
            "scan_id": ours["scan_id"],
            "torch_age_years": ours["predicted_age_years"],
            "onnx_age_years": there["predicted_age_years"],
            "difference_years": there["predicted_age_years"] - ours["predicted_age_years"],
            "seconds": theirs["seconds"],
        }
    )


def folder_mb(folder: Path) -> float:
    """Sum of all files below a folder, in MB."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in files) / 1e6


if __name__ == "__main__":
    sys.exit(run_as_command(main))
