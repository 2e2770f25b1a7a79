"""Read image data sets and measure their complexity."""
