"""Local learning for any network: leader-follower networks with local error signals (LFNN, LFNN-l).

Needs torch alone. Tensors only: nothing here knows of scans, files or trackers. Source:
"Neuron-Inspired Leader-Follower Networks for AI with Local Error Signals", Cheng, Yin et al.,
arXiv 2310.07885.

`localize` cuts a network into blocks, `LocalNetwork` trains them, `assert_isolated` proves that no
gradient crosses a cut. A method of one's own is a `Rule`, most simply made by `local_rule`.
"""

from brainage.lfnn.isolation import assert_isolated
from brainage.lfnn.local_network import BlockOptimizers, LocalNetwork, localize
from brainage.lfnn.losses import local_loss
from brainage.lfnn.step import AuxiliaryRequest, Rule, StepResult, StepSettings, local_rule
from brainage.lfnn.targets import Ages, Classes, ScalarAge, Target
from brainage.lfnn.workers import Head

__all__ = [
    "Ages",
    "AuxiliaryRequest",
    "BlockOptimizers",
    "Classes",
    "Head",
    "LocalNetwork",
    "Rule",
    "ScalarAge",
    "StepResult",
    "StepSettings",
    "Target",
    "assert_isolated",
    "local_loss",
    "local_rule",
    "localize",
]
