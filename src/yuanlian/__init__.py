"""园联 Yuanlian: one installation, many kindergartens."""

__version__ = "0.1.0"
