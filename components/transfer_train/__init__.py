"""The component `transfer_train`."""

from .component import transfer_train

__all__ = ["transfer_train"]
