"""A trained model on disk: weights, settings, facts, card, and a manifest that guards them all.

A bundle is a folder with exactly these files beside whatever else the run left there:
``model.safetensors``, ``config.yaml``, ``bundle.json``, ``card.md``, ``manifest.json``, and where
known ``ood.safetensors``. An ensemble has no weights of its own: its manifest lists member bundles
in subfolders with the hashes of their manifests, so that no file of a member can change unseen.
Nothing in it can run code, and nothing in it names a scan or a person; of ages it holds what
`brainage.evaluation.normative` keeps.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from brainage import __version__
from brainage.config import Config, dump_config, parse_config
from brainage.errors import BundleError, ConfigError
from brainage.evaluation.conformal import ConformalInterval
from brainage.evaluation.normative import Reference, reference_from_json
from brainage.evaluation.ood import OutOfDistribution, ood_from_bytes
from brainage.files import atomic_write_bytes, atomic_write_text, parse_json, sha256_bytes
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.targets import Target
from brainage.model.build import (
    answer_noise,
    build_model,
    build_target,
    check_code,
    parameter_count,
)
from brainage.model.card import build_card
from brainage.model.distribution import AgeDistribution, mix_distributions, predict_distribution
from brainage.model.manifest import (
    BUNDLE_FILES,
    BUNDLE_VERSION,
    OOD,
    SHARED_FILES,
    WEIGHTS,
    read_checked,
    read_manifest,
)
from brainage.named_code import is_code_name
from brainage.types import HalfArray, Json

ANSWER = "answer_to_noise"
_RECORDED_PACKAGES = ("torch", "monai", "nibabel", "torchio", "numpy", "scikit-learn", "nilearn")


@dataclass(frozen=True)
class Bundle:
    """A model, or an ensemble of models, ready to predict.

    Attributes
    ----------
    model : BlockStack
        In evaluation mode, on the CPU; of an ensemble the first member's.
    config : Config
        Resolved settings it was trained with; of an ensemble the first member's.
    facts : dict
        Content of ``bundle.json``: versions, cohort facts, hashed split ids, metrics.
    weights_sha256 : str
        Identity of the weights.
    members : tuple of Bundle
        The networks of an ensemble; empty for a single model.
    ood : OutOfDistribution, optional
        What the training scans looked like.
    """

    model: BlockStack
    config: Config
    facts: Json
    weights_sha256: str
    members: tuple["Bundle", ...] = ()
    ood: OutOfDistribution | None = None

    @property
    def target(self) -> Target:
        """Read-out of the network's outputs."""
        return build_target(self.config.target)

    @property
    def networks(self) -> tuple["Bundle", ...]:
        """The members of an ensemble, or the model alone."""
        return self.members or (self,)

    @property
    def calibration(self) -> ConformalInterval | None:
        """Fitted prediction intervals; None in bundles from before intervals."""
        values = self.facts.get("calibration")
        return None if values is None else ConformalInterval.from_json(values)

    @property
    def intervals(self) -> ConformalInterval | None:
        """Intervals around predicted ages: from sites left out, where the release measured such.

        A new scan comes from a scanner that the networks have not seen, as those of a site left out
        did. A model that was calibrated on its site's own people has theirs.
        """
        values = self.facts.get("left_out_calibration")
        return self.calibration if values is None else ConformalInterval.from_json(values)

    @property
    def reference(self) -> Reference | None:
        """Held-out people to set a person beside; None in bundles from before reports."""
        values = self.facts.get("reference")
        return None if values is None else reference_from_json(values)

    @property
    def train_median_age_years(self) -> float | None:
        """Median of the training ages: the constant that a model must beat.

        Bundles from before it was kept tell it from their reference of held-out people.
        """
        median = self.facts.get("cohort", {}).get("train_median_age_years")
        if median is None and self.reference is not None and len(self.reference.age_years):
            return float(np.median(self.reference.age_years))
        return None if median is None else float(median)

    def predict(self, arrays: HalfArray, batch_size: int = 8) -> AgeDistribution:
        """Predicted ages and their spread of prepared scans (N, I, J, K).

        The members' distributions are averaged; a site's offset (`brainage calibrate`) is
        subtracted. No chronological age enters.
        """
        mixed = mix_distributions(
            [
                predict_distribution(
                    item.model,
                    item.target,
                    arrays,
                    batch_size,
                    item.config.inference.average_heads,
                    item.config.inference.mirror,
                    item.config.inference.point,
                )
                for item in self.networks
            ]
        )
        offset = self.calibration.offset_years_ if self.calibration else 0.0
        return AgeDistribution(mixed.predicted_age_years - offset, mixed.spread_years)


def save_bundle(
    folder: Path,
    model: BlockStack,
    config: Config,
    facts: Json,
    ood: OutOfDistribution | None = None,
    *,
    half: bool = False,
) -> None:
    """Write a bundle; until its manifest is in place the folder is refused by `load_bundle`.

    Parameters
    ----------
    facts : dict
        ``cohort``, ``split_id_hashes``, ``metrics``, ``calibration`` and the like; versions are
        added here.
    half : bool
        Round weights to float16; they are float32 again when loaded. Hidden heads that no
        prediction reads are left out: they are most of a small network.
    """
    if half and config.inference.average_heads == "none":
        model = model.to_plain()
    weights = {name: _stored(tensor, half) for name, tensor in model.state_dict().items()}
    complete = describe([model], config) | facts
    if is_code_name(config.network.name):
        complete[ANSWER] = None if half else answer_noise(model, config)
    _write(folder, {WEIGHTS: save(weights)}, config, complete, ood, {})


def save_ensemble(
    folder: Path, names: Sequence[str], facts: Json, ood: OutOfDistribution | None = None
) -> None:
    """Make bundles in subfolders of `folder` the members of an ensemble.

    Parameters
    ----------
    names : sequence of str
        Subfolders with finished bundles.
    facts : dict
        As in `save_bundle`, of the ensemble.

    Raises
    ------
    BundleError
        If there are no members, one is damaged, or they prepare scans differently.
    """
    members = {name: load_bundle(folder / name) for name in names}
    _check_members(folder, list(members.values()))
    config = next(iter(members.values())).config
    complete = describe([member.model for member in members.values()], config) | facts
    hashes = {name: sha256_bytes((folder / name / "manifest.json").read_bytes()) for name in names}
    _write(folder, {}, config, complete, ood, hashes)


def copy_bundle(bundle: Bundle, folder: Path, changes: Json, *, half: bool = False) -> None:
    """Write a bundle anew, with some facts changed and all else as it was.

    With `half`, weights become float16, and members give up their own out-of-distribution
    references: the ensemble has one.
    """
    facts = bundle.facts | changes
    if not bundle.members:
        save_bundle(folder, bundle.model, bundle.config, facts, bundle.ood, half=half)
        return
    names = [f"member-{number}" for number in range(len(bundle.members))]
    for name, member in zip(names, bundle.members, strict=True):
        ood = None if half else member.ood
        save_bundle(folder / name, member.model, member.config, member.facts, ood, half=half)
    save_ensemble(folder, names, facts, bundle.ood)


def _stored(tensor: Tensor, half: bool) -> Tensor:
    """Return a tensor as it is written: contiguous, on the CPU, float16 where wanted."""
    stored = tensor.cpu().contiguous()
    return stored.half() if half and stored.is_floating_point() else stored


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle or an ensemble after checking every file against the manifest.

    Raises
    ------
    BundleError
        If a file is missing, changed, or of an unknown version; or if network or method are code
        outside brainage that is not trusted (see `brainage.named_code`) or absent.
    """
    manifest = read_manifest(folder)
    if manifest.get("members"):
        return _load_ensemble(folder, manifest)
    content = read_checked(folder, manifest, BUNDLE_FILES)
    try:
        # From the bytes that were checked: the file may be replaced meanwhile.
        config = parse_config(content["config.yaml"], str(folder / "config.yaml"))
        check_code(config, str(folder))
        facts = _read_facts(content["bundle.json"])
        model = _build_for(config, load(content[WEIGHTS]))
    except (ConfigError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(
            str(folder), f"does not describe a model of this version ({reason})."
        ) from error
    model.eval()
    _check_answer(facts, model, config, folder)
    return Bundle(model, config, facts, manifest["sha256"][WEIGHTS], ood=_read_ood(content))


def _check_answer(facts: Json, model: BlockStack, config: Config, folder: Path) -> None:
    """Refuse a model whose network is code that has changed since: its ages would be others."""
    if not is_code_name(config.network.name) or (told := facts.get(ANSWER)) is None:
        return
    now, then = np.array(answer_noise(model, config)), np.array(told)
    if not np.allclose(now, then, rtol=0, atol=1e-3 * np.abs(then).max(), equal_nan=True):
        problem = f"{config.network.name} answers otherwise than when the model was written."
        raise BundleError(str(folder), problem, "Take the code of that day, or train anew.")


def _build_for(config: Config, weights: Mapping[str, Tensor]) -> BlockStack:
    """Network of a bundle with its weights; without hidden heads where the bundle has none."""
    model = build_model(config)
    plain = model.to_plain()
    if plain.state_dict().keys() == weights.keys():
        model = plain
    model.load_state_dict(weights)
    return model


def _load_ensemble(folder: Path, manifest: Json) -> Bundle:
    content = read_checked(folder, manifest, SHARED_FILES)
    members = []
    for name, expected in manifest["members"].items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise BundleError(str(folder), f"lists a member outside itself: {name!r}.")
        try:
            found = sha256_bytes((folder / name / "manifest.json").read_bytes())
        except OSError as error:
            raise BundleError(str(folder / name), "is a member that is missing.") from error
        if found != expected:
            raise BundleError(
                str(folder / name),
                "differs from the ensemble's manifest: it was changed after training.",
                "Restore the folder or train anew.",
            )
        members.append(load_bundle(folder / name))
    _check_members(folder, members)
    try:
        facts = _read_facts(content["bundle.json"])
    except ValueError as error:
        raise BundleError(str(folder / "bundle.json"), "is not JSON.") from error
    identity = sha256_bytes("".join(member.weights_sha256 for member in members).encode())
    first = members[0]
    ood = _read_ood(content)
    return Bundle(first.model, first.config, facts, identity, tuple(members), ood)


def _check_members(folder: Path, members: Sequence[Bundle]) -> None:
    if not members:
        raise BundleError(str(folder), "is an ensemble without members.")
    if any(item.config.preprocessing != members[0].config.preprocessing for item in members):
        raise BundleError(str(folder), "has members that prepare scans differently.")


def _write(
    folder: Path,
    weights: Mapping[str, bytes],
    config: Config,
    facts: Json,
    ood: OutOfDistribution | None,
    members: Mapping[str, str],
) -> None:
    content = {
        **weights,
        "config.yaml": dump_config(config).encode(),
        "bundle.json": (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode(),
        "card.md": build_card(facts).encode(),
    }
    if ood is not None:
        content[OOD] = ood.to_bytes()
    manifest: Json = {
        "bundle_version": BUNDLE_VERSION,
        "sha256": {name: sha256_bytes(data) for name, data in content.items()},
    }
    if members:
        manifest["members"] = dict(members)
    if _is_written(folder, manifest):
        return  # a finished run that is resumed: at no moment is its bundle gone
    try:
        (folder / "manifest.json").unlink(missing_ok=True)
    except OSError as error:
        raise BundleError(str(folder), f"cannot be written ({error.strerror}).") from error
    for name, data in content.items():
        atomic_write_bytes(folder / name, data)
    atomic_write_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def _is_written(folder: Path, manifest: Json) -> bool:
    try:
        found = read_manifest(folder)
        read_checked(folder, found, list(found["sha256"]))
    except BundleError:
        return False
    return found == manifest


def _read_facts(content: bytes) -> Json:
    facts = parse_json(content)
    if not isinstance(facts, dict):
        raise ValueError("bundle.json holds no facts")
    return facts


def _read_ood(content: Mapping[str, bytes]) -> OutOfDistribution | None:
    return ood_from_bytes(content[OOD]) if OOD in content else None


def describe(models: Sequence[BlockStack], config: Config) -> Json:
    """Facts about the model, or an ensemble's models, and the software that made them."""
    return {
        "bundle_version": BUNDLE_VERSION,
        "brainage_version": __version__,
        "git_commit": git_commit(),
        "packages": {name: metadata.version(name) for name in _RECORDED_PACKAGES},
        "method": config.learning.method,
        "network": config.network.name,
        "blocks": len(models[0]),
        "members": len(models),
        "parameters": sum(parameter_count(model) for model in models),
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
