"""Pieces that the pages are drawn from."""
