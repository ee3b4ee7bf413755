"""Carryover: continuous training whose steps resume, extend and carry over."""

__version__ = "0.1.0"
