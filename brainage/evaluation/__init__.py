"""Metrics, baselines, intervals and tests of predicted ages: numbers only."""
