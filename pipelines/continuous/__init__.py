"""The pipeline `continuous`."""

from .pipeline import continuous

__all__ = ["continuous"]
