"""LFNN-ℓ: leaders and followers, without backpropagation between blocks.

Source: Cheng, Yin et al., arXiv 2310.07885.
"""

from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import (
    Rule,
    StepResult,
    StepSettings,
    build_leadership,
    hidden_loss,
    step_block_by_block,
)


def lfnn_l_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """Hidden blocks learn from λ1·L_leader + λ2·L_follower, the last from L_g, each alone."""
    return step_block_by_block(stack, inputs, target_values, settings, hidden_loss)


RULE = Rule(lfnn_l_step, is_local=True, build_aid=build_leadership, hidden_loss=hidden_loss)
