"""How events are shown. One renderer writes to stderr; only the one that is used is imported."""

from __future__ import annotations

from typing import Protocol, Self, TextIO

from builder.errors import UsageError
from builder.events import Event

MODES = ("auto", "tty", "plain", "json", "quiet")


class Renderer(Protocol):
    """An Emit that many threads may call at once. close() shows what is still held back and leaves
    the terminal as it was; it is called once, also after an error or Ctrl-C (`with` does)."""

    shows_output: bool
    """Whether a failed step's output has been shown, so that the error need not repeat it."""

    def __call__(self, event: Event) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...


def use_color(*, is_tty: bool, term: str, no_color: bool, force_color: bool) -> bool:
    """Whether a stream gets colours. NO_COLOR wins over FORCE_COLOR (no-color.org); neither: a
    terminal that is not dumb."""
    if no_color:
        return False
    return force_color or (is_tty and term not in ("", "dumb"))


def choose_renderer(
    mode: str,
    stream: TextIO,
    *,
    is_tty: bool,
    term: str,
    ci: bool,
    no_color: bool = False,
    force_color: bool = False,
) -> Renderer:
    """The renderer for --progress `mode`; `auto` is live on a terminal that can move its cursor and
    is not CI's, else plain. Raises UsageError."""
    color = use_color(is_tty=is_tty, term=term, no_color=no_color, force_color=force_color)
    if mode == "auto":
        mode = "tty" if is_tty and not ci and term not in ("", "dumb") else "plain"
    if mode == "tty":
        from builder.ui.live import Live

        return Live(stream, color=color)
    if mode == "plain":
        from builder.ui.plain import Plain

        return Plain(stream, color=color)
    if mode == "json":
        from builder.ui.jsonl import JsonLines

        return JsonLines(stream)
    if mode == "quiet":
        from builder.ui.quiet import Quiet

        return Quiet(stream, color=color)
    raise UsageError(f"--progress '{mode}' is not one of {', '.join(MODES)}")
