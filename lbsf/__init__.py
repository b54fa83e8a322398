"""Long-term Payment Behavior Sequence Folding (arXiv 2411.15056)."""

__version__ = "0.2.0"
