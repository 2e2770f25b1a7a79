"""Keep what a scan became: placement, array, derivative."""
