"""Native head: the block's own units are the workers' outputs, nothing is added."""

from torch import nn

from brainage.lfnn.blocks import BlockPlace
from brainage.lfnn.workers import Head, NativeHead


def build(head: Head, place: BlockPlace, outputs: int) -> nn.Module:
    """Build a `NativeHead`."""
    return NativeHead(place.feature_shape, outputs, workers=head.workers)
