"""End-to-end backpropagation of the global loss, without local heads."""

from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import (
    Rule,
    StepResult,
    StepSettings,
    backpropagate,
    checkpointed,
    output_loss,
)


def bp_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """Backpropagate L_g through the whole network."""
    with settings.autocast():
        output = _recomputed(stack, inputs) if settings.recomputes else stack(inputs)
    loss = output_loss(output, target_values, settings)
    backpropagate(loss, "network")
    return StepResult(output.detach(), (loss.detach(),))


def _recomputed(stack: BlockStack, inputs: Tensor) -> Tensor:
    """Run the network; of every block only the input is kept for the backward pass."""
    features = inputs
    for block_index in range(len(stack)):
        features = checkpointed(stack[block_index].body, features)
    return stack.read_out(len(stack) - 1, features).squeeze(1)


RULE = Rule(bp_step, has_hidden_heads=False, family="end to end")
