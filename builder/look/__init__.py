"""What is in an image, and how two differ; nothing of it is run."""
