"""Hold brain masks of whole heads against an independent segmentation of them.

``python -m pipelines.study.masks --data ../shared/data --output masks`` writes masks.csv, one row
for each IXI head, and says what they come to; heads that made the skull's model stand apart. With
``--command`` another program's masks are held against it instead.
"""

import argparse
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from brainage.config import PreprocessingConfig
from brainage.prepared.placement import process_source
from brainage.prepared.source import ScanSource
from brainage.prepared.store import PreparedStore
from brainage.preprocessing.mni import dice, resample_volume
from brainage.scans.volume import load_volume
from brainage.types import Json
from brainage.workflows.console import run_as_command, say


def main() -> None:
    """Locate, compare, write; heads that are in the table already are not located again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th head")
    parser.add_argument("--command", default="", help="as --brain-extraction-command of prepare")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    table = arguments.output / "masks.csv"
    earlier = pd.read_csv(table).to_dict("records") if table.exists() else []
    rows = cast(list[Json], earlier)
    done = {row["scan"] for row in rows}
    store = PreparedStore(arguments.output / "cache")
    heads = sorted(arguments.data.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))
    for number, path in list(enumerate(heads))[:: arguments.every]:
        scan = path.name.removesuffix("_T1w.nii.gz")
        if scan not in done:
            reference = arguments.data / "ixi_dlmuse" / f"{scan}_dlmuse.nii.gz"
            # `pipelines.release.skull` takes every second.
            found = compare(ScanSource(str(path), command=arguments.command), reference, store)
            rows.append({"scan": scan, "unseen": number % 2 == 1, **found})
            pd.DataFrame(rows).to_csv(table, index=False)
    people = pd.read_csv(arguments.data / "ixi_hh" / "participants.tsv", sep="\t", na_values="n/a")
    ages = people.set_index("participant_id")["age"]
    every = pd.DataFrame(rows)
    for name, part in (("all", every), ("unseen", every[every["unseen"]])):
        say(f"{name}: {summarise(part, ages)}")


def compare(source: ScanSource, reference: Path, store: PreparedStore) -> Json:
    """Dice, and litres that are missed or too many."""
    found = process_source(source, PreprocessingConfig(), store).processed
    labels = load_volume(reference)
    expected = labels.data > 0
    mask = resample_volume(found.placement.mask, labels.affine, labels.data.shape) >= 0.5
    litres = abs(np.linalg.det(labels.affine[:3, :3])) / 1e6
    return {
        "dice": dice(mask, expected),
        "missed_litres": float((expected & ~mask).sum() * litres),
        "extra_litres": float((mask & ~expected).sum() * litres),
    }


def summarise(part: pd.DataFrame, ages: pd.Series) -> str:
    """Median Dice, and what is missed and whether that depends on age."""
    years = part["scan"].map(ages)
    known = years.notna()
    rho = spearmanr(part["missed_litres"][known], years[known]).statistic
    return (
        f"{len(part)} heads, median Dice {part['dice'].median():.3f}, smallest "
        f"{part['dice'].min():.3f}, missed {part['missed_litres'].mean():.3f} L, too many "
        f"{part['extra_litres'].mean():.3f} L, Spearman's rho of missed volume and age {rho:.2f}"
    )


if __name__ == "__main__":
    sys.exit(run_as_command(main))
