"""Frozen settings: YAML in, resolved YAML out. Unknown keys are errors."""

from brainage.config.image_data import ImagesConfig
from brainage.config.loading import (
    build_config,
    config_folder,
    dump_config,
    load_config,
    load_preset,
    parse_config,
    preset_names,
    with_changes,
)
from brainage.config.run import Config
from brainage.config.sections import (
    AugmentationConfig,
    InferenceConfig,
    LearningConfig,
    NetworkConfig,
    PreprocessingConfig,
    SplitConfig,
    TargetConfig,
    TrainingConfig,
    TransformConfig,
)
from brainage.config.values import Settings

__all__ = [
    "AugmentationConfig",
    "Config",
    "ImagesConfig",
    "InferenceConfig",
    "LearningConfig",
    "NetworkConfig",
    "PreprocessingConfig",
    "Settings",
    "SplitConfig",
    "TargetConfig",
    "TrainingConfig",
    "TransformConfig",
    "build_config",
    "config_folder",
    "dump_config",
    "load_config",
    "load_preset",
    "parse_config",
    "preset_names",
    "with_changes",
]
