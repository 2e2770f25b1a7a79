"""Tables and pictures of what is done so far: CSVs, one Markdown page, PNGs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from brainage.files import atomic_write_text
from brainage.plotting.canvas import BLUE, GREY, INK, ORANGE, build_figure, save_figure
from pipelines.device.rows import OK
from pipelines.device.trainings import published

COLOURS = (BLUE, ORANGE, GREY, INK, "#009E73", "#CC79A7")
IMAGES_NOTE = """\
CIFAR-10, re-encoded as JPEG, {train} training images; errors are those of the last epoch on {test}
test images, also re-encoded. Published: Wang et al. 2021 (arXiv 2101.10832), 160 epochs, equal
cuts, all blocks at once. greedy is LFNN-ℓ with one linear worker and δ = 1, dgl the same with the
mlp-sr head, lfnn_l that of `configs/images`: eight workers that read convolutions. The decoder of
infopro rebuilds a block's input, theirs the image. bfloat16 on CUDA; of each epoch the images that
fill no batch are left out."""
SPEED_NOTE = """\
Medians and quartiles over groups of steps, by CUDA events on a GPU; a step is forward, backward,
clipping and AdamW on a batch of noise on the device. Memory: largest sum of allocated tensors.
float32 as torch has it: convolutions may use TF32, matrix products not. K = 4."""
VIT_NOTE = """\
Stages timed one by one, each waited for. Projected from these times, not run on several devices:
a link of 450 GB/s and 10 µs is assumed."""


@dataclass(frozen=True)
class Tables:
    """What the parts have given so far; each may be empty."""

    images: pd.DataFrame
    speed: pd.DataFrame
    vit: pd.DataFrame
    together: dict[int, float]
    caption: str = ""


def write(tables: Tables, folder: Path, notes: Sequence[str]) -> None:
    """Write device.md and what it shows: tables beside it as CSV, pictures as PNG."""
    sections = ["# On a device", *notes]
    for rows, make in ((tables.images, _images), (tables.speed, _speed), (tables.vit, _vit)):
        if len(rows):
            sections += make(tables, folder)
    atomic_write_text(folder / "device.md", "\n\n".join(sections) + "\n")


def images_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Put published errors beside ours; what is no recipe of theirs, or too short, says so."""
    table = rows.drop(columns=["key"])
    reported = [published(*names) for names in zip(table["network"], table["how"], strict=True)]
    return table.assign(error_percent_published=pd.Series(reported, table.index, dtype=float))


def _images(tables: Tables, folder: Path) -> list[str]:
    table, together = images_table(tables.images), tables.together
    counts = [
        table.get(f"{part}_images", pd.Series(dtype=float)).max() for part in ("train", "test")
    ]
    train, test = ("unknown" if pd.isna(count) else f"{count:,.0f}" for count in counts)
    _write_csv(table, folder / "images.csv")
    columns = {
        "network": "network",
        "how": "how",
        "class": "class",
        "error_percent": "test error, %",
        "error_percent_published": "published, %",
        "epochs_done": "epochs",
        "epochs": "of",
        "seed": "seed",
        "seconds_per_epoch_alone": "s an epoch, alone",
        "status": "status",
    }
    parts = [
        "## Trainings",
        IMAGES_NOTE.format(train=train, test=test),
        to_markdown(table, columns),
    ]
    if together:
        gains = ", ".join(f"{width}: {gain:.2f}" for width, gain in sorted(together.items()))
        parts.append(f"Trainings at once, and how much faster than one after another: {gains}.")
    done = table[table["status"] == OK]
    if len(done):
        draw_errors(done, folder / "images.png", tables.caption)
        parts.append("![errors beside published ones](images.png)")
    return parts


def draw_errors(done: pd.DataFrame, path: Path, caption: str) -> None:
    """Draw test errors as dots, published ones as squares, one panel a network."""
    networks = list(dict.fromkeys(done["network"]))
    rows = max(int((done["network"] == network).sum()) for network in networks)
    figure, axes = build_figure(
        (1, len(networks)),
        (5.5 * len(networks), 1.6 + 0.3 * rows),
        "CIFAR-10, isolated blocks",
        f"re-encoded as JPEG; squares: published (Wang et al. 2021){caption}",
        synthetic=False,
    )
    for panel, network in zip(axes, networks, strict=True):
        own = done[done["network"] == network].iloc[::-1]
        names = [
            f"{how}, {epochs:.0f} epochs"
            for how, epochs in zip(own["how"], own["epochs"], strict=True)
        ]
        places = range(len(own))
        panel.plot(own["error_percent"], places, "o", color=BLUE, label="here")
        panel.plot(own["error_percent_published"], places, "s", color=ORANGE, label="published")
        panel.set_yticks(list(places), names, fontsize=8)
        panel.set_xlabel("test error (%)")
        panel.set_title(network, fontsize=10)
    axes[0].legend(fontsize=8)
    save_figure(figure, path)


def _speed(tables: Tables, folder: Path) -> list[str]:
    table = tables.speed.drop(columns=["key", "steps"], errors="ignore")
    for column in ("step_ms", "step_ms_q1", "step_ms_q3", "peak_memory_mb"):
        table[column] = table.get(column, pd.Series(dtype=float))
    _write_csv(table, folder / "speed.csv")
    columns = {
        "network": "network",
        "shape": "voxels",
        "precision": "precision",
        "layout": "layout",
        "how": "how",
        "step_ms": "ms a step",
        "step_ms_q1": "quartile",
        "step_ms_q3": "quartile ",
        "peak_memory_mb": "memory, MB",
        "batch_size": "batch",
        "cuda_graph": "graph",
        "status": "status",
    }
    parts = ["## Steps of the brain-age networks", SPEED_NOTE, to_markdown(table, columns)]
    done = table[(table["status"] == OK) & (table["layout"] == "contiguous")]
    if len(done):
        for column, label, name in (
            ("step_ms", "ms a step", "speed.png"),
            ("peak_memory_mb", "peak memory (MB)", "memory.png"),
        ):
            draw_bars(done, column, label, folder / name, tables.caption)
        parts.append("![milliseconds a step](speed.png) ![peak memory](memory.png)")
    return parts


def draw_bars(done: pd.DataFrame, column: str, label: str, path: Path, caption: str) -> None:
    """Draw one panel for each grid and precision, networks side by side, a bar for each way."""
    groups = list(done.groupby(["shape", "precision"], sort=False))
    ways, networks = (list(dict.fromkeys(done[name])) for name in ("how", "network"))
    figure, axes = build_figure(
        (len(groups), 1),
        (9.0, 2.6 * len(groups) + 0.8),
        label,
        f"batch 2, K = 4{caption}",
        synthetic=False,
    )
    for panel, ((shape, precision), rows) in zip(axes, groups, strict=True):
        values = rows.pivot_table(index="network", columns="how", values=column, sort=False)
        _draw_groups(panel, values.reindex(index=networks, columns=ways))
        panel.set_title(f"{shape}, {precision}", fontsize=10)
        panel.set_ylabel(label)
    axes[0].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)


def _draw_groups(panel: Axes, values: pd.DataFrame) -> None:
    width = 0.8 / len(values.columns)
    for number, way in enumerate(values.columns):
        places = [place + number * width - 0.4 + width / 2 for place in range(len(values))]
        colour = COLOURS[number % len(COLOURS)]
        hatch = "//" if number >= len(COLOURS) else None
        panel.bar(places, values[way], width, label=way, color=colour, hatch=hatch)
    panel.set_xticks(range(len(values)), list(values.index), fontsize=8)


def _vit(tables: Tables, folder: Path) -> list[str]:
    done = tables.vit[tables.vit["status"] == OK]
    if not len(done):
        return ["## ViT-B/16", *tables.vit["status"].astype(str)]
    stages, projected = _unfold(done, "stages"), _unfold(done, "projection")
    _write_csv(stages, folder / "vit_stages.csv")
    _write_csv(projected, folder / "vit_projection.csv")
    for column in ("forward_s", "backward_s", "input_gradient_s", "head_s"):
        stages[column.replace("_s", "_ms")] = 1000 * stages[column]
    draw_stages(stages, folder / "vit_stages.png", tables.caption)
    columns = {
        "precision": "precision",
        "blocks": "K",
        "devices": "devices",
        "lfnn_l_speedup": "LFNN-ℓ",
        "one_f_one_b_m8_speedup": "1F1B, M = 8",
        "data_parallel_speedup": "data parallel",
        "bound_speedup": "bound of K",
    }
    times = {
        "precision": "precision",
        "name": "stage",
        "forward_ms": "forward, ms",
        "backward_ms": "backward, ms",
        "input_gradient_ms": "input's gradient, ms",
        "head_ms": "head, ms",
    }
    return [
        "## ViT-B/16: stages, and speed-ups projected from them",
        VIT_NOTE,
        to_markdown(projected, columns),
        to_markdown(stages, times),
        "![times of the stages](vit_stages.png)",
    ]


def _unfold(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row for each entry of a column of lists, with its profile's settings in front."""
    parts = [
        pd.DataFrame(entries).assign(precision=precision, batch_size=size)
        for entries, precision, size in zip(
            rows[column], rows["precision"], rows["batch_size"], strict=True
        )
    ]
    table = pd.concat(parts, ignore_index=True)
    front = ["precision", "batch_size"]
    return table[[*front, *[name for name in table if name not in front]]]


def draw_stages(stages: pd.DataFrame, path: Path, caption: str) -> None:
    """Draw forward and backward of every stage, one panel a precision."""
    groups = list(stages.groupby("precision", sort=False))
    figure, axes = build_figure(
        (len(groups), 1),
        (9.0, 3.0 * len(groups) + 0.6),
        "ViT-B/16 by stage",
        caption,
        synthetic=False,
    )
    for panel, (precision, rows) in zip(axes, groups, strict=True):
        _draw_groups(
            panel, rows.set_index("name")[["forward_ms", "backward_ms", "input_gradient_ms"]]
        )
        panel.tick_params(axis="x", rotation=90)
        panel.set_title(f"{precision}, batch {rows['batch_size'].iloc[0]}", fontsize=10)
        panel.set_ylabel("ms")
    axes[0].legend(fontsize=7)
    save_figure(figure, path)


def to_markdown(table: pd.DataFrame, columns: dict[str, str]) -> str:
    """Write some columns of a table under other names."""
    present = {name: title for name, title in columns.items() if name in table}
    lines = [
        " | ".join(title.strip() for title in present.values()),
        " | ".join("---" for _ in present),
    ]
    lines += [" | ".join(_shown(value) for value in row) for row in table[list(present)].to_numpy()]
    return "\n".join(f"| {line} |" for line in lines)


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "—"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    # That of `brainage.workflows.results` imports nibabel, which a lent machine may lack.
    atomic_write_text(path, table.to_csv(index=False))
