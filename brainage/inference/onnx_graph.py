"""Turn a bundle into one ONNX graph: scans in, ages and spreads out."""

from typing import Any

import torch
from torch import Tensor, nn

from brainage.extras import check_extra
from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.targets import Ages
from brainage.model.bundle import Bundle
from brainage.model.distribution import head_outputs, read_ages

INPUT, OUTPUTS = "scans", ("age_years", "spread_years")
EXTRA = "onnx"


class AgeGraph(nn.Module):
    """All networks of a bundle, their heads and mirror images averaged as `Bundle.predict` does.

    Parameters
    ----------
    bundle : Bundle
        Model or ensemble that predicts ages.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.networks = nn.ModuleList(item.model for item in bundle.networks)
        self.readings = [(item.target, item.config.inference) for item in bundle.networks]
        self.offset_years = bundle.calibration.offset_years_ if bundle.calibration else 0.0

    def forward(self, scans: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted ages and spreads in years (B,), (B,) of prepared scans (B, 1, I, J, K)."""
        ages, variances = [], []
        for network, (target, how) in zip(self.networks, self.readings, strict=True):
            assert isinstance(network, BlockStack)
            outputs = head_outputs(network, scans, how.average_heads, how.mirror)
            means = [read_ages(target, item, how.point) for item in outputs]
            spreads = [
                target.spread(item) if isinstance(target, Ages) else torch.zeros_like(mean)
                for item, mean in zip(outputs, means, strict=True)
            ]
            age, variance = _mix(means, [spread.square() for spread in spreads])
            ages.append(age)
            variances.append(variance)
        age, variance = _mix(ages, variances)
        return age - self.offset_years, variance.sqrt()


def _mix(means: list[Tensor], variances: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance of an equal mixture: see `mix_distributions`."""
    stacked = torch.stack(means)
    mean = stacked.mean(dim=0)
    return mean, torch.stack(variances).mean(dim=0) + (stacked - mean).square().mean(dim=0)


def build_onnx(bundle: Bundle) -> bytes:
    """Build the ONNX file of a bundle, with its weights in float32.

    Returns
    -------
    bytes
        Input ``scans`` float32 (B, 1, I, J, K), any B; outputs ``age_years`` and
        ``spread_years`` float32 (B,).

    Raises
    ------
    MissingExtraError
        If ``pip install 'brainage[onnx]'`` is missing.
    """
    for package in ("onnx", "onnxscript"):
        check_extra(package, EXTRA)
    graph = AgeGraph(bundle).eval()
    # Two, since torch takes a batch of one for a constant.
    example = torch.zeros(2, *bundle.config.input_shape)
    with torch.no_grad():
        program = torch.export.export(
            graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        # ONNX has no pooling to a grid that does not divide the maps.
        program = program.run_decompositions(
            {torch.ops.aten.adaptive_avg_pool3d.default: _average_cells}
        )
        made: Any = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[*OUTPUTS]
        )
    content: bytes = made.model_proto.SerializeToString()
    return content


def _average_cells(features: Tensor, grid: list[int]) -> Tensor:
    """Adaptive average pooling (B, C, I, J, K) to (B, C, *grid), one axis after the other."""
    for axis, cells in enumerate(grid, start=2):
        size = int(features.shape[axis])
        bounds = [(n * size // cells, -(-(n + 1) * size // cells)) for n in range(cells)]
        parts = [features.narrow(axis, a, b - a).mean(axis, keepdim=True) for a, b in bounds]
        features = torch.cat(parts, dim=axis)
    return features
