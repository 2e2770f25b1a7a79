"""Deep supervision (Lee et al. 2015): a loss at every block, gradients through all of them."""

from dataclasses import replace

from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.methods.lfnn import lfnn_step
from brainage.lfnn.step import Rule, StepResult, StepSettings


def deep_supervision_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """Backpropagate the losses of all heads; every worker leads (δ = 1)."""
    return lfnn_step(stack, inputs, target_values, replace(settings, leader_fraction=1.0))


RULE = Rule(deep_supervision_step, family="deep supervision")
