"""VGG networks for small images; a stage is one convolution with what follows it."""

import math

from torch import nn

LAYOUTS: dict[str, tuple[int | str, ...]] = {
    # Nøkland & Eidnes 2019, VGG8b: six convolutions and one hidden fully connected layer
    "vgg8b": (128, 256, "pool", 256, 512, "pool", 512, "pool", 512, "pool", "full 1024"),
    # Simonyan & Zisserman 2015, configuration E, without its hidden fully connected layers
    "vgg19": (
        *(64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool"),
        *(512, 512, 512, 512, "pool", 512, 512, 512, 512, "pool"),
    ),
}


def build_stages(
    in_channels: int,
    input_size: tuple[int, ...],
    *,
    layout: str = "vgg8b",
    width: float = 1.0,
    dropout: float = 0.0,
) -> dict[str, nn.Module]:
    """Stages of {Conv2d 3 → BatchNorm → ReLU → MaxPool 2 where the layout has one → Dropout}.

    Parameters
    ----------
    layout : {"vgg8b", "vgg19"}
        Which network.
    width : float
        Factor on all numbers of channels.

    Raises
    ------
    ValueError
        If the layout is unknown.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    stages: list[list[nn.Module]] = []
    channels, size = in_channels, list(input_size)
    for item in LAYOUTS[layout]:
        if item == "pool":
            stages[-1].insert(3, nn.MaxPool2d(2))
            size = [edge // 2 for edge in size]
            continue
        out_channels = max(1, round(width * int(str(item).removeprefix("full "))))
        if isinstance(item, int):
            stages.append(
                [
                    nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                ]
            )
        else:
            layer = nn.Linear(channels * math.prod(size), out_channels, bias=False)
            norm = nn.BatchNorm1d(out_channels)
            stages.append([nn.Flatten(), layer, norm, nn.ReLU(), nn.Dropout(dropout)])
        channels = out_channels
    return {f"layer{n}": nn.Sequential(*stage) for n, stage in enumerate(stages, start=1)}
