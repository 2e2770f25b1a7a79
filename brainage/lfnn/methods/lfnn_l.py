"""LFNN-ℓ: leaders and followers, without backpropagation between blocks.

Hidden blocks learn from λ1·L_leader + λ2·L_follower, the last one from L_g, each alone. Source:
Cheng, Yin et al., arXiv 2310.07885.
"""

from brainage.lfnn.step import build_leadership, hidden_loss, local_rule

RULE = local_rule(hidden_loss, build_leadership)
