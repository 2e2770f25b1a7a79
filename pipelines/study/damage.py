"""What the quality gate says of real heads that were damaged on purpose.

``python -m pipelines.study.damage --data ../shared/data --output build/damage --jobs 2`` damages
every n-th IXI head in known ways, turns it into other kinds of images, processes all, and compares
the registration with that of the undamaged head; real files that are no T1 stand beside them.
Writes damage.csv (a row a scan), damage.md (a row a damage), odd_scans.md, and what
`pipelines.study.gate_roc` makes of it. Run again, it takes up what damage.csv lacks, and judges
what it has by the limits of today.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.random import Generator
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brainage.config import PreprocessingConfig
from brainage.errors import BrainageError
from brainage.preprocessing.locate import Clock, Located, locate_brain
from brainage.preprocessing.pipeline import process_volume
from brainage.preprocessing.registration import displacement_mm
from brainage.preprocessing.verdict import MEANING, judge
from brainage.sandbox.engines import Engine, run_tasks
from brainage.sandbox.parent import Limits
from brainage.scans.volume import load_volume
from brainage.types import DoubleArray, FloatArray, Json, Volume
from brainage.workflows.console import run_as_command, say
from pipelines.study.gate_roc import write_roc
from pipelines.study.other_images import CONTRASTS, imitate, is_brain

SETTINGS = PreprocessingConfig(spacing_mm=3.0, shape=(52, 64, 52))
# A brain whose voxels are on average farther from where the undamaged scan puts them is wrongly
# registered.
WRONG_MM = 8.0
TASK = "pipelines.study.damage:damage_task"

# A damage takes the scan, its brain as found undamaged, and a generator; it gives the damaged
# scan and the motion (4, 4) of the world that it stands for.
Damage = Callable[[Volume, Located, Generator], tuple[Volume, DoubleArray]]


def main() -> None:
    """Damage, process, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--every", type=int, default=16, help="take every n-th IXI head")
    parser.add_argument("--jobs", type=int, default=2, help="heads at a time")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    table = arguments.output / "damage.csv"
    rows = [judge_again(row) for row in read_rows(table)] if table.exists() else []
    done = {(row["scan"], row["damage"]) for row in rows}
    heads = sorted(arguments.data.glob("ixi_hh/sub-*/anat/*_T1w.nii.gz"))[:: arguments.every]
    tasks = []
    for number, path in enumerate(heads):
        missing = [name for name in DAMAGES if (path.name, name) not in done]
        if missing:
            tasks.append({"path": str(path), "number": number, "damages": missing})
    engine = Engine("processes", arguments.jobs, limits=Limits(seconds=7200))
    for position, outcome in run_tasks(TASK, tasks, engine):
        if outcome.result is None:
            raise SystemExit(f"{tasks[position]['path']}: {outcome.problem}")
        rows += outcome.result["rows"]
        pd.DataFrame(rows).to_csv(table, index=False)
        say(Path(str(tasks[position]["path"])).name)
    found = pd.DataFrame(rows)
    found.to_csv(table, index=False)
    (arguments.output / "damage.md").write_text(summarise(found), encoding="utf-8")
    odd = list_odd_scans(arguments.data)
    (arguments.output / "odd_scans.md").write_text(odd, encoding="utf-8")
    write_roc(found, arguments.output)


def damage_task(task: Json) -> Json:
    """Damage one head in each way that is asked for, between JSON objects."""
    path = Path(task["path"])
    volume = load_volume(path)
    reference = locate_brain(volume, None, SETTINGS, path.name, Clock())
    rows = []
    for name in task["damages"]:
        rng = np.random.default_rng([task["number"], len(name)])
        damaged, motion = DAMAGES[name](volume, reference, rng)
        row = examine(damaged, reference.placement.to_mni @ np.linalg.inv(motion))
        rows.append({"scan": path.name, "damage": name, **row})
    return {"rows": rows}


def read_rows(table: Path) -> list[Json]:
    """Rows of an earlier run."""
    rows = pd.read_csv(table, keep_default_na=False, na_values=[""])
    return cast(list[Json], rows.to_dict("records"))


def judge_again(row: Json) -> Json:
    """Judge a row of an earlier run by the limits of today; a scan without a brain stays failed."""
    measures = {name: row[name] for name in MEANING if not pd.isna(row.get(name))}
    if not measures:
        return {**row, "recognised": ""}
    verdict, reasons = judge(measures, row["recognised"], SETTINGS)
    return {**row, "verdict": verdict, "reasons": "; ".join(reasons)}


def examine(volume: Volume, expected: DoubleArray | None) -> dict[str, object]:
    """Verdict, reasons and measures of a scan, and how far it lies from where it should, in mm."""
    try:
        found = process_volume(volume, SETTINGS, "")
    except BrainageError as error:
        return {"verdict": "failed", "reasons": error.reason, "recognised": "", "error_mm": None}
    error_mm = None if expected is None else displacement_mm(found.transform, expected)
    return {
        "verdict": found.verdict,
        "reasons": "; ".join(found.reasons),
        "recognised": found.recognised,
        "error_mm": error_mm,
        **found.measures,
    }


def move(motion: DoubleArray) -> Damage:
    """Damage that moves the head in its world without touching a voxel."""
    return lambda volume, _, __: (Volume(volume.data, motion @ volume.affine), motion)


def turn(axis: str, degrees: float) -> Damage:
    """Rotation about an axis through the world's origin."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    return move(motion)


def shift(*shift_mm: float) -> Damage:
    """Return translation in mm."""
    motion = np.eye(4)
    motion[:3, 3] = shift_mm
    return move(motion)


def flip_header(volume: Volume, located: Located, _: Generator) -> tuple[Volume, DoubleArray]:
    """Swap left and right: the anatomy is mirrored about the middle of the image.

    The best that registration can do then is to put the mirrored head where the template, mirrored
    about x = 0, has it; the motion says so, for brains are all but symmetric.
    """
    mirror = np.eye(4)
    mirror[0, 0] = -1
    centre = volume.affine @ np.array([*(np.array(volume.data.shape) - 1) / 2, 1.0])
    mirror[0, 3] = 2 * centre[0]
    swap = (
        np.linalg.inv(located.placement.to_mni)
        @ np.diag([-1.0, 1, 1, 1])
        @ located.placement.to_mni
    )
    return Volume(np.ascontiguousarray(volume.data[::-1]), volume.affine), mirror @ swap


def cut(axis: int, end: int) -> Damage:
    """End the field of view 3 cm inside the brain; `end` 1 cuts at the axis's far end."""

    def apply(volume: Volume, located: Located, _: Generator) -> tuple[Volume, DoubleArray]:
        inside = (
            np.argwhere(located.placement.mask.data >= 0.5)
            @ located.placement.mask.affine[:3, :3].T
        )
        edge = (inside + located.placement.mask.affine[:3, 3])[:, axis]
        place = np.max(edge) - 30 if end else np.min(edge) + 30
        index = round((place - volume.affine[axis, 3]) / volume.affine[axis, axis])
        keep = [slice(None)] * 3
        keep[axis] = slice(None, index) if end else slice(index, None)
        affine = volume.affine.copy()
        affine[:3, 3] += 0 if end else volume.affine[:3, axis] * index
        return Volume(np.ascontiguousarray(volume.data[tuple(keep)]), affine), np.eye(4)

    return apply


def change(function: Callable[[FloatArray, Generator], FloatArray]) -> Damage:
    """Damage to the intensities alone."""

    def apply(volume: Volume, _: Located, rng: Generator) -> tuple[Volume, DoubleArray]:
        return Volume(function(volume.data, rng).astype(np.float32), volume.affine), np.eye(4)

    return apply


def add_bias(data: FloatArray, rng: Generator) -> FloatArray:
    """Multiply by a smooth field, e-fold from end to end along each axis."""
    ramps = np.meshgrid(*[np.linspace(-1, 1, side) for side in data.shape], indexing="ij")
    return data * np.exp(sum(0.5 * sign * r for sign, r in zip((1, -1, 1), ramps, strict=True)))


def add_noise(data: FloatArray, rng: Generator) -> FloatArray:
    """Rician noise of a fifth of the 90th percentile."""
    sigma = 0.2 * np.percentile(data, 90)
    real = data + rng.normal(0, sigma, data.shape)
    return np.hypot(real, rng.normal(0, sigma, data.shape))


def add_ghosts(data: FloatArray, rng: Generator) -> FloatArray:
    """Weaken every fourth line of k-space by half along the second axis: ghosts at quarters."""
    spectrum = np.fft.fft(data, axis=1)
    spectrum[:, ::4] *= 0.5
    return np.abs(np.fft.ifft(spectrum, axis=1))


def add_motion(data: FloatArray, rng: Generator) -> FloatArray:
    """Head that nods by 8 degrees for two fifths of the lines of k-space."""
    nodded = ndimage.rotate(data, 8, axes=(1, 2), reshape=False, order=1)
    spectrum, other = (np.fft.fftshift(np.fft.fft(d, axis=1), axes=1) for d in (data, nodded))
    lines = data.shape[1]
    moved = slice(int(0.55 * lines), int(0.95 * lines))
    spectrum[:, moved] = other[:, moved]
    return np.abs(np.fft.ifft(np.fft.ifftshift(spectrum, axes=1), axis=1))


def blur(data: FloatArray, rng: Generator) -> FloatArray:
    """Gaussian of 2 voxels' standard deviation: 9.4 mm full width at half maximum at 2 mm."""
    return ndimage.gaussian_filter(data, 2.0)


def invert(data: FloatArray, rng: Generator) -> FloatArray:
    """T2-like: bright becomes dark inside the head."""
    bright = np.percentile(data, 99)
    return np.where(data > 0.1 * bright, np.maximum(1.1 * bright - data, 0.05 * bright), data)


def thicken(volume: Volume, _: Located, __: Generator) -> tuple[Volume, DoubleArray]:
    """Slices of 6 mm along the third axis, said in the header."""
    factor = max(1, round(5.9 / volume.spacing_mm[2]))
    count = volume.data.shape[2] // factor
    data = volume.data[:, :, : count * factor].reshape(*volume.data.shape[:2], count, factor)
    affine = volume.affine @ np.diag([1, 1, factor, 1.0])
    affine[:3, 3] += volume.affine[:3, 2] * (factor - 1) / 2
    return Volume(np.ascontiguousarray(data.mean(axis=3)), affine), np.eye(4)


def thicken_quietly(volume: Volume, located: Located, rng: Generator) -> tuple[Volume, DoubleArray]:
    """Slices of 6 mm, interpolated back so that the header does not tell."""
    thick, motion = thicken(volume, located, rng)
    index = np.linalg.inv(thick.affine) @ volume.affine
    data = ndimage.affine_transform(
        thick.data, index[:3, :3], index[:3, 3], volume.data.shape, order=1
    )
    return Volume(data, volume.affine), motion


def strip(volume: Volume, located: Located) -> Volume:
    """Set all outside the brain to 0."""
    return Volume(np.where(is_brain(volume, located), volume.data, np.float32(0)), volume.affine)


def show_as(contrast: str, stripped: bool) -> Damage:
    """Another kind of image of the same head, perhaps of its brain alone; "" keeps T1."""

    def apply(volume: Volume, located: Located, rng: Generator) -> tuple[Volume, DoubleArray]:
        shown = imitate(contrast, volume, located, rng) if contrast else volume
        return (strip(shown, located) if stripped else shown), np.eye(4)

    return apply


def quantise(steps: int) -> Damage:
    """Labels: the brain in so many steps of brightness, 0 around it."""

    def apply(volume: Volume, located: Located, _: Generator) -> tuple[Volume, DoubleArray]:
        brain = is_brain(volume, located)
        edges = np.percentile(volume.data[brain], np.linspace(0, 100, steps + 1)[1:-1])
        smooth = ndimage.median_filter(volume.data, 3)
        labels = np.where(brain, 1 + np.searchsorted(edges, smooth), 0).astype(np.float32)
        return Volume(labels, volume.affine), np.eye(4)

    return apply


DAMAGES: dict[str, Damage] = {
    "none": move(np.eye(4)),
    "pitched 30°": turn("x", 30),
    "rolled 30°": turn("y", 30),
    "turned 30°": turn("z", 30),
    "shifted 4 cm": shift(25, -25, 20),
    "left–right flipped header": flip_header,
    "top of the brain cut by 3 cm": cut(2, 1),
    "bottom of the brain cut by 3 cm": cut(2, 0),
    "front of the brain cut by 3 cm": cut(1, 1),
    "side of the brain cut by 3 cm": cut(0, 0),
    "strong bias field": change(add_bias),
    "noise": change(add_noise),
    "ghosts": change(add_ghosts),
    "motion": change(add_motion),
    "blur": change(blur),
    "6 mm slices": thicken,
    "6 mm slices, interpolated": thicken_quietly,
    "inverted contrast": change(invert),
    "stripped": show_as("", True),
    "labels": quantise(3),
    "mask": quantise(1),
} | {
    f"{name}{', stripped' * stripped}": show_as(name, stripped)
    for name in CONTRASTS
    for stripped in (False, True)
}


def summarise(table: pd.DataFrame) -> str:
    """Markdown table: a row for each damage."""
    lines = [
        "| damage | ok | flagged | failed | wrong (of these ok) | farthest of the ok | reasons |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in table.groupby("damage", sort=False):
        counts = part["verdict"].value_counts()
        wrong, passed = part["error_mm"] > WRONG_MM, part["verdict"] == "ok"
        silent = int((wrong & passed).sum())
        farthest_mm = part["error_mm"][passed].max()
        farthest = "" if np.isnan(farthest_mm) else f"{farthest_mm:.1f} mm"
        cells = [str(counts.get(verdict, 0)) for verdict in ("ok", "flagged", "failed")]
        found = part["reasons"].fillna("").str.findall(r"\((\w+) ").explode()
        names = found.value_counts().index[:3]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {wrong.sum()} ({silent}) | {farthest} "
            f"| {', '.join(names)} |"
        )
    return "\n".join(lines) + "\n"


def list_odd_scans(data: Path) -> str:
    """Markdown table: a row for each odd or strange image, with what became of it."""
    lines = ["| file | recognised | verdict | why |", "|---|---|---|---|"]
    files = [*data.glob("odd_scans/*"), *data.glob("strange_inputs/*.nii.gz")]
    for path in sorted(files):
        try:
            row = examine(load_volume(path, path.name), None)
        except BrainageError as error:
            row = {"recognised": "not read", "verdict": "failed", "reasons": error.reason}
        lines.append(f"| {path.name} | {row['recognised']} | {row['verdict']} | {row['reasons']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_as_command(main))
