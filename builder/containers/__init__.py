"""Containers: an image that runs, with a layer of its own."""
