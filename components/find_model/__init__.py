"""The component `find_model`."""

from .component import find_model

__all__ = ["find_model"]
