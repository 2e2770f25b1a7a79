"""All learning methods by name: one training step each, one signature.

A method is a module of `brainage.lfnn.methods`; adding one touches no other file. A step leaves
gradients; it moves no weight. Gradients of a block-local method are computed block by block: the
activations of one block are freed before the next block runs.
"""

import importlib

from brainage.lfnn.step import Rule, Step, StepResult, StepSettings
from brainage.types import METHODS

__all__ = ["BLOCK_LOCAL", "METHOD_RULES", "RULES", "Rule", "Step", "StepResult", "StepSettings"]


def _load_rule(name: str) -> Rule:
    rule: Rule = importlib.import_module(f"brainage.lfnn.methods.{name}").RULE
    return rule


METHOD_RULES: dict[str, Rule] = {name: _load_rule(name) for name in METHODS}
RULES: dict[str, Step] = {name: rule.step for name, rule in METHOD_RULES.items()}
BLOCK_LOCAL = frozenset(name for name, rule in METHOD_RULES.items() if rule.is_local)
