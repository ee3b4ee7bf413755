"""The pipeline `extend`."""

from .pipeline import extend

__all__ = ["extend"]
