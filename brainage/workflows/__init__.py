"""Do the work of each command; what the public names call."""
