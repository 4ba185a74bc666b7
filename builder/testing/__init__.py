"""Tests of images: what `tests:` of a spec says, held against what was made of it."""
