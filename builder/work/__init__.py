"""Doing several things at once, and stopping them."""
