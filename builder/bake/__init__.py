"""Bake and compose files: their targets, and the specs that build the same images."""
