"""Research programs of the repository; not installed."""
