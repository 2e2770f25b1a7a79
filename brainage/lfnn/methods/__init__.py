"""The learning methods, one module each, with a constant ``RULE``; see `brainage.lfnn.rules`."""
