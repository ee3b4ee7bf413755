"""The component `prepare_data`."""

from .component import prepare_data

__all__ = ["prepare_data"]
