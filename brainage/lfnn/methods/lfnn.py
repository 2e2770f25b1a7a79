"""LFNN: leaders and followers in every hidden block, with backpropagation.

Source: Cheng, Yin et al., arXiv 2310.07885.
"""

from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import (
    Rule,
    StepResult,
    StepSettings,
    backpropagate,
    build_leadership,
    hidden_loss,
    output_loss,
    run_stages,
)


def lfnn_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """Backpropagate L_g + Σ over hidden blocks of (λ1·L_leader + λ2·L_follower)."""
    with settings.autocast():
        outputs, features = [], inputs
        for block_index in range(len(stack)):
            features = run_stages(stack[block_index].body, features, settings.recomputes)
            outputs.append(stack.read_out(block_index, features))
    output = outputs[-1].squeeze(1)
    losses = [
        hidden_loss(stack, block_index, hidden, target_values, settings)
        for block_index, hidden in enumerate(outputs[:-1])
    ]
    losses.append(output_loss(output, target_values, settings))
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    backpropagate(total, "network")
    return StepResult(output.detach(), tuple(loss.detach() for loss in losses))


RULE = Rule(lfnn_step, build_auxiliary=build_leadership, family="deep supervision")
