"""Greedy layer-wise training: each block is frozen before the next one starts.

Source: Bengio et al. 2006 (NIPS 19); with classifiers at each block, Belilovsky et al. 2019
(ICML), whose auxiliary classifier is the configured head here.
"""

from dataclasses import replace

import torch
from torch import Tensor

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.step import (
    Rule,
    StepResult,
    StepSettings,
    backpropagate,
    hidden_loss,
    output_loss,
    run_stages,
)


def greedy_step(
    stack: BlockStack, inputs: Tensor, target_values: Tensor, settings: StepSettings
) -> StepResult:
    """Train the block whose turn it is; every worker leads (δ = 1).

    Blocks before it are frozen: they run in evaluation mode, so that their batch statistics stay
    too. Blocks after it do not run.
    """
    active = active_block(settings.progress, len(stack))
    features = inputs
    with torch.no_grad(), settings.autocast():
        for block_index in range(active):
            features = stack[block_index].eval().body(features)
    with settings.autocast():
        features = run_stages(stack[active].body, features.detach(), settings.recomputes)
        outputs = stack.read_out(active, features)
    output = outputs.mean(dim=1)
    if active == len(stack) - 1:
        loss = output_loss(output, target_values, settings)
    else:
        all_lead = replace(settings, leader_fraction=1.0)
        loss = hidden_loss(stack, active, outputs, target_values, all_lead)
    backpropagate(loss, f"block {active}")
    return StepResult(output.detach(), (loss.detach(),))


def active_block(progress: float, blocks: int) -> int:
    """Choose the block that trains after a share `progress` of the training: equal shares."""
    return min(blocks - 1, int(progress * blocks + 1e-9))


RULE = Rule(greedy_step, is_local=True, trains_in_turn=True)
