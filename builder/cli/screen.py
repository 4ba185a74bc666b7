"""What the terminal is, and errors on it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.errors import BuilderError, CommandFailed

if TYPE_CHECKING:
    from builder.ui import Renderer


def renderer(mode: str) -> Renderer:
    from builder.ui import choose_renderer

    environ = os.environ
    shown = choose_renderer(
        mode,
        sys.stderr,
        is_tty=sys.stderr.isatty(),
        term=environ.get("TERM", ""),
        ci=bool(environ.get("CI")),
        no_color=bool(environ.get("NO_COLOR")),
        force_color=bool(environ.get("FORCE_COLOR") or environ.get("CLICOLOR_FORCE")),
    )
    if mode != "json" and _annotated():
        from builder.ui.annotations import Annotated

        return Annotated(shown, sys.stderr)
    return shown


def _annotated() -> bool:
    """Whether this is a job of GitHub's Actions, which shows errors beside the lines of a diff."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


@contextlib.contextmanager
def telling(shown: Renderer) -> Iterator[Renderer]:
    """Around a build: an error says whether a failed command's output was shown already."""
    try:
        with shown as emit:
            yield emit
    except BuilderError as error:
        error.output_shown = shown.shows_output
        raise


def color(stream: object) -> bool:
    from builder.ui import use_color

    environ = os.environ
    return use_color(
        is_tty=bool(getattr(stream, "isatty", lambda: False)()),
        term=environ.get("TERM", ""),
        no_color=bool(environ.get("NO_COLOR")),
        force_color=bool(environ.get("FORCE_COLOR") or environ.get("CLICOLOR_FORCE")),
    )


def width() -> int | None:
    """Columns of the terminal on stdout; None: not a terminal, nothing is cut."""
    return os.get_terminal_size(1).columns if sys.stdout.isatty() else None


def show_warning(warning: BuilderError) -> None:
    from builder.ui.errors import render_error

    sys.stderr.write(render_error(warning, color=color(sys.stderr), word="warning"))
    if _annotated():
        from builder.ui.annotations import commands

        sys.stderr.write(commands(warning, "warning"))


def show_error(error: BuilderError, progress: str) -> None:
    """`progress`: the mode that was asked for; `json` has the error as its last line."""
    from builder.ui.errors import error_document, render_error

    if progress == "json":
        from builder.ui.jsonl import line

        sys.stderr.write(line("error", error_document(error)))
        return
    if error.place and not error.snippet and not isinstance(error, CommandFailed):
        from builder.spec.files import snippet_at

        error.snippet = snippet_at(error.place)
    tail = not error.output_shown
    sys.stderr.write(render_error(error, color=color(sys.stderr), tail=tail))
    if _annotated():
        from builder.ui.annotations import commands

        sys.stderr.write(commands(error))
