"""A trained model on disk: weights, settings, facts, card, and a manifest that guards them all.

A bundle is a folder with exactly these files beside whatever else the run left there:
``model.safetensors``, ``config.yaml``, ``bundle.json``, ``card.md``, ``manifest.json``.
Nothing in it can run code, and nothing in it names a scan, a person or an age.
"""

import json
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from brainage import __version__
from brainage.config import Config, dump_config, load_config
from brainage.errors import BundleError, ConfigError
from brainage.files import atomic_write_bytes, atomic_write_text, sha256_bytes
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import Target
from brainage.model import build_model, build_target, parameter_count
from brainage.types import Json

BUNDLE_VERSION = "1"
BUNDLE_FILES = ("model.safetensors", "config.yaml", "bundle.json", "card.md")
_RECORDED_PACKAGES = ("torch", "monai", "nibabel", "torchio", "numpy", "scikit-learn", "nilearn")


@dataclass(frozen=True)
class Bundle:
    """A model ready to predict.

    Attributes
    ----------
    model : BlockStack
        In evaluation mode, on the CPU.
    config : Config
        Resolved settings it was trained with.
    facts : dict
        Content of ``bundle.json``: versions, cohort facts, hashed split ids, metrics.
    weights_sha256 : str
        Identity of the weights.
    """

    model: BlockStack
    config: Config
    facts: Json
    weights_sha256: str

    @property
    def target(self) -> Target:
        """Read-out of the network's outputs."""
        return build_target(self.config.target)


def save_bundle(folder: Path, model: BlockStack, config: Config, facts: Json) -> None:
    """Write a bundle; until its manifest is in place the folder is refused by `load_bundle`.

    Parameters
    ----------
    facts : dict
        ``cohort``, ``split_id_hashes``, ``metrics`` and the like; versions are added here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    complete = describe(model, config) | facts
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = {
        "model.safetensors": save(weights),
        "config.yaml": dump_config(config).encode(),
        "bundle.json": (json.dumps(complete, indent=2, sort_keys=True) + "\n").encode(),
        "card.md": build_card(complete).encode(),
    }
    for name, data in content.items():
        atomic_write_bytes(folder / name, data)
    manifest = {
        "bundle_version": BUNDLE_VERSION,
        "sha256": {name: sha256_bytes(data) for name, data in content.items()},
    }
    atomic_write_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle after checking every file against the manifest.

    Raises
    ------
    BundleError
        If a file is missing, changed, or of an unknown version.
    """
    content, hashes = _read_checked(folder)
    try:
        config = load_config(folder / "config.yaml")
        facts = json.loads(content["bundle.json"])
        model = build_model(config)
        model.load_state_dict(load(content["model.safetensors"]))
    except (ConfigError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(
            str(folder), f"does not describe a model of this version ({reason})."
        ) from error
    model.eval()
    return Bundle(model, config, facts, hashes["model.safetensors"])


def _read_checked(folder: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, hashes = manifest["bundle_version"], dict(manifest["sha256"])
    except FileNotFoundError as error:
        raise BundleError(
            str(folder),
            "holds no finished model (no manifest.json).",
            "Give the folder that `brainage train --output` wrote.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(str(path), "is not a bundle's manifest.") from error
    if version != BUNDLE_VERSION:
        raise BundleError(
            str(folder),
            f"has bundle version {version!r}, this program reads {BUNDLE_VERSION!r}.",
            "Use the brainage that wrote it, or train anew.",
        )
    content = {}
    for name in BUNDLE_FILES:
        try:
            content[name] = (folder / name).read_bytes()
        except OSError as error:
            raise BundleError(str(folder / name), "is missing or unreadable.") from error
        if sha256_bytes(content[name]) != hashes.get(name):
            raise BundleError(
                str(folder / name),
                "differs from the manifest: it was changed or damaged after training.",
                "Restore the file or train anew.",
            )
    return content, hashes


def describe(model: BlockStack, config: Config) -> Json:
    """Facts about the model and the software that made it."""
    return {
        "bundle_version": BUNDLE_VERSION,
        "brainage_version": __version__,
        "git_commit": git_commit(),
        "packages": {name: metadata.version(name) for name in _RECORDED_PACKAGES},
        "method": config.learning.method,
        "network": config.network.name,
        "blocks": len(model),
        "parameters": parameter_count(model),
        "seed": config.seed,
        **_predicts(config),
    }


def _predicts(config: Config) -> Json:
    if config.images is None:
        return {"model_age_range_years": [config.target.low_years, config.target.high_years]}
    return {"dataset": config.images.dataset, "classes": config.target.classes}


def git_commit() -> str:
    """Commit of the source tree this package runs from; "unknown" outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return result.stdout.strip()


def build_card(facts: Json) -> str:
    """Model card in Markdown from the facts of the run."""
    about = {
        "network": f"{facts['network']}, {facts['blocks']} blocks",
        "parameters": f"{facts['parameters']:,}",
        "method": facts["method"],
        "software": f"brainage {facts['brainage_version']}, commit {facts['git_commit']}",
    }
    tail = _image_card(facts, about) if "dataset" in facts else _age_card(facts, about)
    return "\n".join(["# Model card", "", "Research use only. Never a diagnosis.", "", *tail])


def _image_card(facts: Json, about: Json) -> list[str]:
    metrics: Json = facts.get("metrics", {})
    about |= {"data": str(facts["dataset"]), "predicts": f"one of {facts['classes']} classes"}
    accuracy = {
        "this model": _number(metrics.get("test_accuracy"), 4),
        "training images": str(metrics.get("n_train", "?")),
        "test images": str(metrics.get("n_test", "?")),
    }
    lines = ["## Model", "", *_markdown_table("", about), ""]
    return [*lines, "## On the test images", "", *_markdown_table("accuracy", accuracy), ""]


def _age_card(facts: Json, about: Json) -> list[str]:
    cohort: Json = facts.get("cohort", {})
    metrics: Json = facts.get("metrics", {})
    baselines: Json = metrics.get("baselines", {})
    counts = (f"{cohort.get(f'n_{name}', '?')} {name}" for name in ("train", "validation", "test"))
    about |= {
        "predicts": _range(facts["model_age_range_years"]),
        "scans": ", ".join(counts) + "; split by subject",
        "training ages": _range(cohort.get("train_age_range_years")),
        "input": "brain-extracted T1 in MNI space",
    }
    interval = f"{_number(metrics.get('mae_ci_low'))} to {_number(metrics.get('mae_ci_high'))}"
    error = {
        "this model": f"{_number(metrics.get('mae_years'))} (95 % CI {interval})",
        "linear baseline": _number(baselines.get("linear", {}).get("mae_years")),
        "constant predictor": _number(baselines.get("constant", {}).get("mae_years")),
        "mean gap": _number(metrics.get("bias_years")),
        "r": _number(metrics.get("r")),
        "scans": str(metrics.get("n", "?")),
    }
    lines = []
    if cohort.get("synthetic"):
        lines += ["**Trained on synthetic phantoms: its ages mean nothing.**", ""]
    lines += ["## Model", "", *_markdown_table("", about), ""]
    lines += ["## Error on the test scans", "", *_markdown_table("MAE, years", error), ""]
    return [*lines, "Errors and gaps are raw: no age-bias correction was applied.", "", _LIMITS]


_LIMITS = """## Limits

- Scanners, sequences and populations other than the training cohort's can shift the prediction
  by years.
- Ages outside the training range cannot be predicted.
- Scans used in training are recorded as hashes of their ids in `bundle.json`.
"""


def _markdown_table(heading: str, rows: Json) -> list[str]:
    return [
        f"| | {heading} |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in rows.items()),
    ]


def _range(values: Any) -> str:
    return f"{values[0]:.0f} to {values[1]:.0f} years" if values else "?"


def _number(value: Any, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "?"
