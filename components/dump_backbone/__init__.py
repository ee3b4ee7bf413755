"""The component `dump_backbone`."""

from .component import dump_backbone

__all__ = ["dump_backbone"]
