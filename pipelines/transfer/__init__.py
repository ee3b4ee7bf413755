"""The pipeline `transfer`."""

from .pipeline import transfer

__all__ = ["transfer"]
