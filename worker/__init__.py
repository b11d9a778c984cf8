"""Inkling's streaming worker: sessions, scores, outcomes."""

__version__ = "0.1.0"
