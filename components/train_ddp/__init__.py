"""The component `train_ddp`."""

from .component import train_ddp

__all__ = ["train_ddp"]
