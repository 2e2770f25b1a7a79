"""The sidecar that vouches for a volume which `prepare` wrote: no package is needed."""

import json
from pathlib import Path
from typing import get_args

from brainage.errors import BrainageError
from brainage.files import parse_json, sha256_bytes, sha256_file
from brainage.preprocessing.template import TEMPLATE_SHA256
from brainage.scans.derivative_names import find_derivative
from brainage.types import Json, Verdict

# What `prepare` calls its files; the sidecar holds these keys.
SIDECAR_IMAGE, SIDECAR_MASK, SIDECAR_SELF = "ImageSHA256", "MaskSHA256", "SidecarSHA256"


def read_sidecar(path: str | Path) -> Json | None:
    """Read the sidecar of a volume that `prepare` wrote; None where it does not vouch for it."""
    mask = find_derivative(path).mask
    if mask is None:
        return None
    try:
        text = Path(path).with_name(Path(path).name.split(".")[0] + ".json").read_bytes()
        sidecar: Json = parse_json(text)
        told = [sidecar[name] for name in ("TemplateSHA256", SIDECAR_IMAGE, SIDECAR_MASK)]
        found = [TEMPLATE_SHA256, sha256_file(Path(path)), sha256_file(mask)]
        whole = sidecar["Verdict"] in get_args(Verdict) and isinstance(sidecar["Measures"], dict)
        # Sidecars from before there was a seal have none.
        whole = whole and sidecar in (sign_sidecar(sidecar), _unsigned(sidecar))
    except (OSError, ValueError, TypeError, KeyError, BrainageError):
        return None
    return sidecar if whole and told == found else None


def sign_sidecar(sidecar: Json) -> Json:
    """Add to a sidecar the SHA-256 of its other entries, in any order."""
    content = _unsigned(sidecar)
    text = json.dumps(content, sort_keys=True)
    return content | {SIDECAR_SELF: sha256_bytes(text.encode("utf-8", "surrogateescape"))}


def _unsigned(sidecar: Json) -> Json:
    return {name: value for name, value in sidecar.items() if name != SIDECAR_SELF}
