"""The version: of the program, and part of what is kept by content."""

__version__ = "0.1.0"
