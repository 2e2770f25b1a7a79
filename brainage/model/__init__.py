"""Build, describe and store models."""
