"""Brain age from T1 MRI, trained by leader-follower local learning or backpropagation."""

__version__ = "0.1.0"
