"""Warnings only; the error that ends a build is the command line's to show."""

from __future__ import annotations

from builder.events import Event, Warned
from builder.ui.plain import Plain


class Quiet(Plain):
    shows_output = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Warned):
            super().__call__(event)
