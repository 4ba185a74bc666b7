"""Annotations: errors and warnings as GitHub's workflow commands, shown beside the lines of a diff.

`::error file=specs/site.yaml,line=3,col=5,title=site step 2 (install)::message%0Ahint`
"""

from __future__ import annotations

import contextlib
from typing import Self, TextIO

from builder.errors import BuilderError, FailedStep, Place, each_of
from builder.events import Event, Warned
from builder.ui import Renderer
from builder.ui.text import harmless


def commands(error: BuilderError, kind: str = "error") -> str:
    """The command of each error that is in it, each ended; `kind` is `error` or `warning`."""
    return "".join(
        _annotation(kind, each.what, each.hint, each.place, each.step) for each in each_of(error)
    )


class Annotated:
    """Another renderer, and an annotation for each warning."""

    def __init__(self, inner: Renderer, stream: TextIO) -> None:
        self._inner, self._stream = inner, stream
        self.shows_output = inner.shows_output

    def __call__(self, event: Event) -> None:
        self._inner(event)
        if isinstance(event, Warned):
            with contextlib.suppress(OSError):  # whoever read it has gone: no reason to stop
                self._stream.write(_annotation("warning", event.text, None, event.place, None))
                self._stream.flush()

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._inner.__exit__(*exception)


def _annotation(
    kind: str, what: str, hint: str | None, place: Place | None, step: FailedStep | None
) -> str:
    properties = {}
    if place:
        properties = {"file": place.file, "line": str(place.line), "col": str(place.column)}
    if step:
        properties["title"] = f"{step.image} step {step.number} ({step.name})"
    said = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    lines = [_escaped(line) for text in (what, hint) if text for line in text.split("\n")]
    return f"::{kind}{' ' if said else ''}{said}::{'%0A'.join(lines)}\n"


def _escaped(text: str, more: str = "") -> str:
    """A value of a command: the signs that mean something there are written as in a URL."""
    text = harmless(text)
    for char in "%" + more:
        text = text.replace(char, f"%{ord(char):02X}")
    return text
