"""Secrets: who gives them, what they are, and where none of them may be seen."""
