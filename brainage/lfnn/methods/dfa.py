"""Direct feedback alignment: the output's error reaches every block through fixed random weights.

Source: Nøkland 2016 (NIPS 29), applied to the outputs of blocks; inside a block the gradient is
exact. The last block learns from the global loss.
"""

import math

import torch
from torch import Tensor, nn

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import (
    AuxiliaryRequest,
    Rule,
    StepResult,
    StepSettings,
    backpropagate,
    output_loss,
    run_stages,
)


class Feedback(nn.Module):
    """Fixed random weights from the output's error to a block's output: never trained.

    Parameters
    ----------
    feature_shape : tuple of int
        Shape of the block's output without the batch.
    outputs : int
        Width C of the network's output.
    """

    def __init__(self, feature_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        # So scaled that the error keeps its length in expectation.
        weight = torch.randn(outputs, *feature_shape) / math.sqrt(math.prod(feature_shape))
        self.weight: Tensor
        self.register_buffer("weight", weight)

    def forward(self, error: Tensor) -> Tensor:
        """Turn an error (B, C) into a gradient of the block's output (B, ...)."""
        return torch.tensordot(error, self.weight.to(error.dtype), dims=1)


def dfa_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """Give each hidden block e·B as its output's gradient: e = ∂L_g/∂output, B fixed."""
    block_features: list[Tensor] = []
    features = inputs
    with settings.autocast():
        for block_index in range(len(stack)):
            body = stack[block_index].body
            features = run_stages(body, features.detach(), settings.recomputes)
            block_features.append(features)
        output = stack.read_out(len(stack) - 1, features).squeeze(1)
    if output.requires_grad:
        output.retain_grad()
    loss = output_loss(output, target_values, settings)
    backpropagate(loss, f"block {len(stack) - 1}")
    error = output.grad
    assert error is not None
    for block_index, hidden in enumerate(block_features[:-1]):
        feedback = stack[block_index].auxiliary
        assert isinstance(feedback, Feedback)
        if hidden.requires_grad:  # a block without weights has nothing to learn
            hidden.backward(feedback(error).to(hidden.dtype))
    return StepResult(output.detach(), (loss.detach(),))


def build_feedback(request: AuxiliaryRequest) -> nn.Module:
    """Draw a hidden block's feedback from torch's generator."""
    return Feedback(request.feature_shape, request.outputs)


RULE = Rule(dfa_step, has_hidden_heads=False, build_auxiliary=build_feedback, family="feedback")
