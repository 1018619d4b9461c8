"""Synthetic end-to-end delivery probing."""

__version__ = "0.1.0"
