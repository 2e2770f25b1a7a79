"""The mlp-sr head of Decoupled Greedy Learning (Belilovsky et al. 2020, arXiv 1901.08164).

Maps: pooled to a quarter of each edge, three 1-wide convolutions, pooled to 2 on each axis, two
hidden fully connected layers, read-out; BatchNorm and ReLU behind each. Of tokens the mean or the
class token, of vectors themselves the fully connected part remains, our reading.
"""

import math

from torch import nn

from brainage.lfnn.blocks import BlockPlace
from brainage.lfnn.heads._layers import Pool, ReadToken, check_reads_all, mix
from brainage.lfnn.workers import Head, WorkerHead

CONVOLUTIONS, HIDDEN = 3, 2


def build(head: Head, place: BlockPlace, outputs: int) -> nn.Module:
    """Build the head; its workers share all but the read-out."""
    check_reads_all(head)
    shape = place.feature_shape
    layers: list[nn.Module] = []
    if len(shape) == 2:
        layers.append(ReadToken(head.token))
    width = shape[-1]
    if len(shape) > 2:
        small = tuple(math.ceil(size / 4) for size in shape[1:])
        last = tuple(min(2, size) for size in small)
        layers += [Pool(small), *(mix(shape, shape[0]) for _ in range(CONVOLUTIONS)), Pool(last)]
        layers.append(nn.Flatten())
        width = shape[0] * math.prod(last)
    layers += [mix((width,), width) for _ in range(HIDDEN)]
    reader = WorkerHead((width,), outputs, workers=head.workers, norm="none", dropout=head.dropout)
    return nn.Sequential(*layers, reader)
