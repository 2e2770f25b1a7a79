"""A fully connected network; a stage is a layer, and the last stage leads to the output layer."""

from collections.abc import Sequence

from torch import nn


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    widths: Sequence[int] = (320, 320),
    activation: str = "after",
    norm: bool = False,
) -> dict[str, nn.Module]:
    """Layers of {Linear → ReLU}, then an empty stage that holds the output layer's block.

    The defaults are the MLP of the leader-follower paper: two hidden layers of 32 workers × 10
    neurons, and an output layer; three blocks.

    Parameters
    ----------
    activation : {"after", "before"}
        Where the ReLU lies: at the end of a layer, so that heads read its result, or at the start
        of the next one, so that native workers give out values of both signs.
    norm : bool
        Normalise each layer's sums over the batch.

    Raises
    ------
    ValueError
        If `activation` is neither.
    """
    if activation not in ("after", "before"):
        raise ValueError(f"activation must be after or before, got {activation!r}")
    fan_in = in_channels
    for size in input_size:
        fan_in *= size
    stages: dict[str, nn.Module] = {}
    for number, width in enumerate(widths, start=1):
        layer: list[nn.Module] = [nn.Flatten() if number == 1 else nn.Identity()]
        if activation == "before" and number > 1:
            layer = [nn.ReLU()]
        layer.append(nn.Linear(fan_in, width))
        layer += [nn.BatchNorm1d(width)] if norm else []
        layer += [nn.ReLU()] if activation == "after" else []
        stages[f"layer{number}"] = nn.Sequential(*layer)
        fan_in = width
    stages["output"] = nn.Identity() if activation == "after" else nn.ReLU()
    return stages
