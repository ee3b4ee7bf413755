"""The component `champion`."""

from .component import champion

__all__ = ["champion"]
