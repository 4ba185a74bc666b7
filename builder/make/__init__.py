"""Making images: for each planned step take the layer that is there, or make it."""
