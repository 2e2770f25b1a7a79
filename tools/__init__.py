"""Campaigns that test the product for hours: fuzzing, faults, load, mutation; not installed."""
