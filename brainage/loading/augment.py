"""The random changes of training scans: our transforms, TorchIO's, and the user's own by name.

Every volume is changed from a seed of its own, so that neither the number of loader processes nor
the batch it is in moves a bit.
"""

import pkgutil
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torchio
from torch import Tensor

from brainage.config import AugmentationConfig, PreprocessingConfig, TransformConfig
from brainage.errors import ConfigError
from brainage.loading.transforms import (
    RandomAffine,
    RandomBiasField,
    RandomContrast,
    RandomEdge,
    RandomFlip,
    RandomNoise,
    RandomSharpness,
    RandomTissue,
)
from brainage.preprocessing.intensity import tissue_patterns

_SETTING = "augmentation.extra"


class Augmentation:
    """The configured chain: flip, affine, contrast, tissue, sharpness, …, edge, the user's.

    Parameters
    ----------
    preprocessing : PreprocessingConfig
        How the volumes were prepared.

    Raises
    ------
    ConfigError
        If a transform of the user's cannot be imported or built.
    """

    def __init__(self, config: AugmentationConfig, preprocessing: PreprocessingConfig) -> None:
        spacing_mm = preprocessing.spacing_mm
        self._steps: list[Callable[[Tensor], Tensor]] = [
            *_configured_steps(config, preprocessing),
            *(
                Foreign(
                    load_transform(extra, number),
                    spacing_mm,
                    f"{_SETTING}[{number}] ({extra.name})",
                    keeps_background=extra.keeps_background,
                )
                for number, extra in enumerate(config.extra)
            ),
        ]

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Change the inputs of a batch, float16 or float32 (B, 1, I, J, K), by its seeds (B,).

        Returns
        -------
        dict
            The batch with new inputs of float32.
        """
        inputs, seeds = batch["inputs"], batch["seeds"].tolist()
        changed = torch.empty_like(inputs, dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):
            # One volume after another: it stays in the processor's cache.
            for volume, seed, result in zip(inputs, seeds, changed, strict=True):
                torch.default_generator.manual_seed(seed)
                for step in self._steps:
                    volume = step(volume)
                result.copy_(volume)
        return {**batch, "inputs": changed}


class Foreign:
    """A transform that is not ours, on volumes whose voxels it sees in mm.

    Parameters
    ----------
    where : str
        What a message is about.
    keeps_background : bool
        Whether what was 0 is set to 0 again.
    """

    def __init__(
        self, transform: torchio.Transform, spacing_mm: float, where: str, *, keeps_background: bool
    ) -> None:
        self._transform, self._where = transform, where
        self._affine, self._keeps_background = np.diag([spacing_mm] * 3 + [1]), keeps_background

    def __call__(self, volume: Tensor) -> Tensor:
        """Change a volume (1, I, J, K); the result is a plain tensor of float32.

        Raises
        ------
        ConfigError
            If the transform fails, or its result has another shape or values that are not finite.
        """
        image = torchio.ScalarImage(tensor=volume.float(), affine=self._affine)
        remedy = "Change its arguments, or leave it out."
        with _seeded_everywhere(self._transform):
            try:
                changed = self._transform(torchio.Subject(inputs=image))["inputs"].data
            except Exception as error:
                raise ConfigError(self._where, f"fails ({_first_line(error)}).", remedy) from error
        changed = changed.as_subclass(Tensor).float()
        if changed.shape != volume.shape or not changed.isfinite().all():
            came = f"{tuple(changed.shape)} from {tuple(volume.shape)}"
            problem = f"must keep the shape and give finite values, got {came}."
            raise ConfigError(self._where, problem, remedy)
        return changed * (volume != 0) if self._keeps_background else changed


def load_transform(setting: TransformConfig, number: int) -> torchio.Transform:
    """Import and build a transform that the settings name.

    Raises
    ------
    ConfigError
        If it cannot be imported, is neither TorchIO's nor MONAI's, or refuses its arguments.
    """
    from monai.transforms import Transform

    where = f"{_SETTING}[{number}]"
    remedy = "Name a subclass of torchio.Transform or monai.transforms.Transform, as package.Name."
    try:
        found = pkgutil.resolve_name(setting.name)
    except Exception as error:
        problem = f"{setting.name!r} cannot be imported ({_first_line(error)})."
        raise ConfigError(f"{where}.name", problem, remedy) from error
    if not (isinstance(found, type) and issubclass(found, torchio.Transform | Transform)):
        raise ConfigError(f"{where}.name", f"{setting.name!r} is no transform.", remedy)
    try:
        built = found(**setting.arguments)
    except Exception as error:
        problem = f"{setting.name} refuses them ({_first_line(error)})."
        raise ConfigError(f"{where}.arguments", problem, "See its documentation.") from error
    return built if isinstance(built, torchio.Transform) else torchio.MonaiAdapter(built)


def _configured_steps(
    config: AugmentationConfig, preprocessing: PreprocessingConfig
) -> Iterator[Callable[[Tensor], Tensor]]:
    spacing_mm = preprocessing.spacing_mm
    if config.flip_probability > 0:
        # Axis 0 of RAS+ volumes is left-right: the only direction in which brains are symmetric.
        yield RandomFlip(axes=(0,), flip_probability=config.flip_probability)
    largest = max(config.max_rotation_degrees, config.max_scale, config.max_shift_mm)
    if config.affine_probability > 0 and largest > 0:
        yield RandomAffine(
            scales=config.max_scale,
            degrees=config.max_rotation_degrees,
            translation=config.max_shift_mm / spacing_mm,
            p=config.affine_probability,
        )
    if config.contrast_probability > 0 and config.max_contrast > 0:
        yield RandomContrast(config.max_contrast, p=config.contrast_probability)
    yield from _tissue_step(config, preprocessing)
    if config.sharpness_probability > 0 and config.max_sharpness > 0:
        yield RandomSharpness(config.max_sharpness, p=config.sharpness_probability)
    if config.bias_probability > 0:
        yield RandomBiasField(p=config.bias_probability)
    if config.noise_probability > 0 and config.max_noise_std > 0:
        yield RandomNoise(std=(0.0, config.max_noise_std), p=config.noise_probability)
    # Blur by up to a voxel, shift by up to two.
    for name, probability, size in (
        ("RandomBlur", config.blur_probability, {"std": (0.0, spacing_mm)}),
        ("RandomMotion", config.motion_probability, {"translation": 2 * spacing_mm}),
    ):
        if probability > 0:
            transform = getattr(torchio, name)(**size, p=probability)
            yield Foreign(transform, spacing_mm, f"augmentation: {name}", keeps_background=True)
    if config.edge_probability > 0 and config.max_edge_mm > 0:
        yield RandomEdge(config.max_edge_mm / spacing_mm, p=config.edge_probability)


def _tissue_step(
    config: AugmentationConfig, preprocessing: PreprocessingConfig
) -> Iterator[RandomTissue]:
    if config.tissue_probability > 0 and config.max_tissue > 0:
        patterns = torch.from_numpy(tissue_patterns(preprocessing))
        yield RandomTissue(config.max_tissue, patterns, p=config.tissue_probability)


@contextmanager
def _seeded_everywhere(transform: torchio.Transform) -> Iterator[None]:
    """Seed NumPy's, Python's and MONAI's generators from torch's; put back the first two."""
    from monai.data.utils import set_rnd

    seed = int(torch.randint(2**32 - 1, ()))
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    set_rnd(transform, seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
