"""Convolutions, then a layer of workers: the leader-follower paper's own small CNNs."""

from collections.abc import Sequence

from torch import nn


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    widths: Sequence[int] = (128, 64, 64, 128),
    workers: int = 4,
    worker_units: int = 10,
    dropout: float = 0.2,
) -> dict[str, nn.Module]:
    """Pairs of {Conv2d 3 → ReLU}, each with {MaxPool 2 → BatchNorm → Dropout}, then workers.

    The last stage is the ReLU before the read-out, so that the layer of workers is a block of its
    own. Cheng, Yin et al., arXiv 2310.07885, give the number of parameters alone; the layers are
    those of the notebook that its authors released. With the defaults on MNIST: 437,570 weights,
    read-out included.

    Parameters
    ----------
    widths : sequence of int
        Channels of the convolutions; each two end in a pooling.
    workers, worker_units : int
        The fully connected layer has workers × units neurons.

    Raises
    ------
    ValueError
        If the convolutions do not come in pairs.
    """
    if len(widths) % 2 or not widths:
        raise ValueError(f"widths must come in pairs, got {len(widths)}")
    stages: dict[str, nn.Module] = {}
    channels, size = in_channels, list(input_size)
    for pair in range(len(widths) // 2):
        first, second = widths[2 * pair : 2 * pair + 2]
        stages[f"pair{pair + 1}"] = nn.Sequential(
            nn.Conv2d(channels, first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(second),
            nn.Dropout(dropout),
        )
        channels, size = second, [edge // 2 for edge in size]
    for edge in size:
        channels *= edge
    stages["workers"] = nn.Sequential(nn.Flatten(), nn.Linear(channels, workers * worker_units))
    stages["output"] = nn.ReLU()
    return stages
