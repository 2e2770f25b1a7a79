"""Predict ages and attribute them to voxels."""
