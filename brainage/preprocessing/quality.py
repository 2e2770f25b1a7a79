"""The quality gate: named measures of a scan in MNI space, and a verdict on them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

from brainage.config import PreprocessingConfig
from brainage.preprocessing.locate import Kind, Located
from brainage.preprocessing.mni import CHECK_SPACING_MM, dice, load_template
from brainage.types import BoolArray, FloatArray, Verdict, Volume

def measure(located: Located, volume: Volume) -> dict[str, float]:
    template = load_template(CHECK_SPACING_MM)
    data, mask = located.sample(template.affine, template.mask.shape)
    common = mask & template.mask
    found = {
        "mask_overlap": dice(mask, template.mask),
        "template_correlation": float(np.corrcoef(data[common], template.intensity[common])[0, 1]),
        "mask_litres": float(located.mask.data.sum() * np.prod(located.mask.spacing_mm) / 1e6),
    }
    if located.alignment is not None:
        found["scale_largest"] = float(located.alignment.scales[0])
        found["scale_smallest"] = float(located.alignment.scales[2])
        found["extracted_correlation"] = located.alignment.correlation
    return found

def judge(measures, kind, settings):
    if not measures["template_correlation"] >= settings.min_template_correlation:
        return "failed", (f"correlation {measures['template_correlation']:.2f}",)
    return "ok", ()

def limits_hash():
    return ""
