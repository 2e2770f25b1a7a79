"""Shape legend, aliases and the few values that travel between layers.

Shapes: B batch, C channels, classes or age bins, I J K voxels (RAS+), W workers, N scans.
Units are in names: ``_years``, ``_mm``, ``_s``, ``_mb``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    DoubleArray = NDArray[np.float64]
    HalfArray = NDArray[np.float16]
    BoolArray = NDArray[np.bool_]
else:  # the command line's help needs no numpy
    FloatArray = DoubleArray = HalfArray = BoolArray = Any
Json = dict[str, Any]
Record = Mapping[str, Any]

METHODS: tuple[str, ...] = tuple(
    sorted(m.name for m in iter_modules([str(Path(__file__).parent / "lfnn" / "methods")]))
)
"""Names of the learning methods: the modules of `brainage.lfnn.methods`."""

HEADS: tuple[str, ...] = tuple(
    sorted(
        m.name
        for m in iter_modules([str(Path(__file__).parent / "lfnn" / "heads")])
        if not m.name.startswith("_")
    )
)
"""Names of what reads a hidden block: the modules of `brainage.lfnn.heads`."""

DEFAULT_BASELINES = ("constant", "linear")
BASELINES = (*DEFAULT_BASELINES, "gaussian_process", "svr", "volumes")
"""Names of the simple models that a network is set beside (`brainage.evaluation.baselines`)."""

MAP_METHODS = ("integrated_gradients", "occlusion", "smoothgrad")
"""Names of the maps of what a network looked at (`brainage.inference.attribution`)."""

DEFAULT_MAP = "integrated_gradients"

MISSING_CODES = (-4, -9, -88, -99, -888, -999, -9999, -99999, 99, 888, 999, 9999, 99999)
"""Numbers that may stand for a missing value, where all others are far from them."""

Verdict = Literal["ok", "flagged", "failed"]


@dataclass(frozen=True)
class Volume:
    """One 3-D image in memory.

    Attributes
    ----------
    data : numpy.ndarray of float32 (I, J, K)
        Voxels, axes towards Right, Anterior, Superior (RAS+).
    affine : numpy.ndarray of float64 (4, 4)
        Voxel index to world coordinates in mm.
    """

    data: FloatArray
    affine: DoubleArray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel along i, j, k in mm."""
        i, j, k = (self.affine[:3, :3] ** 2).sum(axis=0) ** 0.5
        return float(i), float(j), float(k)


@dataclass(frozen=True)
class LedgerEntry:
    """What became of one input row or scan.

    Attributes
    ----------
    verdict : {"ok", "flagged", "failed", "surplus"}
        ``surplus``: passed over for a better file of the same session, and not bad.
    path_hash : str
        Hash of where the source lies: tells sources apart in a ledger that names no folder.
    versions : str
        Programs that touched it.
    """

    scan_id: str
    stage: str
    verdict: Verdict | Literal["surplus"]
    reason: str = ""
    seconds: float = 0.0
    path_hash: str = ""
    versions: str = ""

    @property
    def gate(self) -> Verdict:
        """Verdict of the quality gate: a surplus file never comes to it."""
        return "failed" if self.verdict == "surplus" else self.verdict
