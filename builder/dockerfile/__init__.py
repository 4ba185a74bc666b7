"""Dockerfiles: their text read as Docker reads it, and turned into a spec that does the same."""
