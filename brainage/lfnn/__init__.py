"""The learning rule: leader-follower networks with local error signals (LFNN, LFNN-l).

Tensors only: nothing here knows of scans, files or trackers. Source: "Neuron-Inspired
Leader-Follower Networks for AI with Local Error Signals", Cheng, Yin et al., arXiv 2310.07885.
"""
