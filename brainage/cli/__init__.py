"""Declare the `brainage` command: signatures only."""
