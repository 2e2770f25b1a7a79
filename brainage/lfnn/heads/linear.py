"""Linear head: pooled, normalised features, read by one linear layer a worker."""

from torch import nn

from brainage.lfnn.blocks import BlockPlace
from brainage.lfnn.workers import Head, WorkerHead


def build(head: Head, place: BlockPlace, outputs: int) -> nn.Module:
    """Build a `WorkerHead` on the block's features."""
    return read_linearly(head, place.feature_shape, outputs)


def read_linearly(
    head: Head, feature_shape: tuple[int, ...], outputs: int, convolves: bool = False
) -> WorkerHead:
    """Build the workers that read features of a shape as the settings say."""
    return WorkerHead(
        feature_shape,
        outputs,
        workers=head.workers,
        reads=head.reads,
        pool=head.pool,
        norm=head.norm,
        dropout=head.dropout,
        token=head.token,
        convolves=convolves,
    )
