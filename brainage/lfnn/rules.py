"""All learning methods by name: one training step each, one signature.

A method is a module of `brainage.lfnn.methods`, or a `Rule` of the user's own that is named
``package.module:RULE``. A step leaves gradients; it moves no weight. Gradients of a block-local
method are computed block by block: the activations of one block are freed before the next runs.
"""

import importlib

from brainage.errors import ConfigError
from brainage.lfnn.step import Rule, Step, StepResult, StepSettings
from brainage.named_code import is_code_name, load_code
from brainage.types import METHODS

__all__ = ["METHOD_RULES", "Rule", "Step", "StepResult", "StepSettings"]


class _Rules(dict[str, Rule]):
    """The methods of the package; a rule of the user's own is found by its name."""

    def __missing__(self, name: str) -> Rule:
        if not is_code_name(name):
            known = ", ".join(self)
            raise ConfigError(
                "learning.method",
                f"unknown method {name!r}.",
                f"Use package.module:RULE or {known}.",
            )
        rule = load_code(name, "learning.method")
        if not isinstance(rule, Rule):
            problem = f"{name} is a {type(rule).__name__}, not a rule."
            raise ConfigError("learning.method", problem, "Make one with lfnn.Rule or local_rule.")
        return rule


def _load_rule(name: str) -> Rule:
    rule: Rule = importlib.import_module(f"brainage.lfnn.methods.{name}").RULE
    return rule


METHOD_RULES: dict[str, Rule] = _Rules({name: _load_rule(name) for name in METHODS})
