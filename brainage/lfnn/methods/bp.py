"""End-to-end backpropagation of the global loss, without local heads."""

from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import Rule, StepResult, StepSettings, output_loss


def bp_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """Backpropagate L_g through the whole network."""
    with settings.autocast():
        output = stack(inputs)
    loss = output_loss(output, target_values, settings)
    loss.backward()
    return StepResult(output.detach(), (loss.detach(),))


RULE = Rule(bp_step, has_hidden_heads=False)
