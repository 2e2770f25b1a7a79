"""Convolution head: one 3-wide convolution of the block's width, then as the linear head."""

from torch import nn

from brainage.lfnn.blocks import BlockPlace
from brainage.lfnn.heads.linear import read_linearly
from brainage.lfnn.workers import Head


def build(head: Head, place: BlockPlace, outputs: int) -> nn.Module:
    """Build a `WorkerHead` with a convolution, as Decoupled Greedy Learning has with one layer."""
    return read_linearly(head, place.feature_shape, outputs, convolves=True)
