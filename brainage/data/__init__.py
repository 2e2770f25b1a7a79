"""Cohorts, splits, volumes, transforms, phantoms: everything that reads input."""
