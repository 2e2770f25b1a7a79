"""Mono-Forward: every stage is a block with one linear read-out, trained by cross-entropy.

LFNN-ℓ with K = all stages, δ = 1, one worker and linear heads is the same rule under another name.
Source: Gong, Li & Abdulla 2025 (arXiv 2501.09238); of maps and tokens the pooled features are read,
our reading.
"""

from dataclasses import replace

from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import StepSettings, hidden_loss, local_rule
from brainage.lfnn.workers import Head


def mono_forward_loss(
    stack: BlockStack,
    block_index: int,
    outputs: Tensor,
    target_values: Tensor,
    settings: StepSettings,
    features: Tensor,
) -> Tensor:
    """Compute the prediction loss of a block's worker: all lead (δ = 1), λ1 = 1."""
    settings = replace(settings, leader_fraction=1.0, leader_weight=1.0)
    return hidden_loss(stack, block_index, outputs, target_values, settings)


RULE = local_rule(
    mono_forward_loss,
    own_head=Head("linear", workers=1, norm="none"),
    cuts_every_stage=True,
)
