"""Thin head for wide networks: a 1-wide convolution to few channels, then as the linear head.

A head of the block's own width costs channels² weights: with ``conv``, ResNet-50 in four blocks
has 94 % more parameters. Of 128 channels the cost grows with the width alone.
"""

from torch import nn

from brainage.lfnn.blocks import BlockPlace
from brainage.lfnn.heads._layers import check_reads_all, mix
from brainage.lfnn.heads.linear import read_linearly
from brainage.lfnn.workers import Head, feature_channels

WIDTH = 128


def build(head: Head, place: BlockPlace, outputs: int) -> nn.Module:
    """Build {1×1 convolution to 128 channels → BatchNorm → ReLU}, then linear workers."""
    check_reads_all(head)
    shape = place.feature_shape
    channels = feature_channels(shape)
    width = min(WIDTH, channels)
    narrow = (shape[0], width) if len(shape) == 2 else (width, *shape[1:])
    return nn.Sequential(mix(shape, width), read_linearly(head, narrow, outputs))
