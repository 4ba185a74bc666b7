"""Layers: changesets as entries, and entries to and from tar bytes (image-spec layer.md)."""
