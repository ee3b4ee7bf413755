"""The pipeline `train`."""

from .pipeline import train

__all__ = ["train"]
