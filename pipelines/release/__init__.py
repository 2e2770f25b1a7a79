"""Make what travels with the package: template, gate limits, model."""
