"""Errors as text: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.errors import (
    BuilderError,
    BuildErrors,
    CommandFailed,
    SpecErrors,
    TestFailure,
    each_of,
)
from builder.ui.human import count
from builder.ui.text import BOLD, CYAN, DIM, RED, YELLOW, excerpt_lines, harmless, paint


def error_document(error: BuilderError) -> dict[str, Any]:
    """An error for --json: what is known of it. Of several errors the first, and all of them."""
    documents = [_document(each) for each in each_of(error)]
    return {**documents[0], "errors": documents} if len(documents) > 1 else documents[0]


def _document(error: BuilderError) -> dict[str, Any]:
    document: dict[str, Any] = {"message": error.what}
    if error.place:
        document["place"] = error.place._asdict()
    if error.via:
        document["via"] = [each._asdict() for each in error.via]
    if error.hint:
        document["hint"] = error.hint
    if error.step:
        document["step"] = error.step._asdict()
    if isinstance(error, CommandFailed):
        shown = error.excerpt
        document.update(exit_status=error.exit_status, first_errors=list(shown.first))
        document.update(tail=list(shown.last), log=shown.command or None)
    if isinstance(error, TestFailure) and error.tail:
        document["tail"] = list(error.tail)
    return document


def render_error(
    error: BuilderError, *, color: bool = False, tail: bool = True, word: str = "error"
) -> str:
    """All lines of an error, each ended. `tail`: a failed command's last output is shown too; not
    where the renderer has shown it (Renderer.shows_output)."""
    if isinstance(error, SpecErrors | BuildErrors):
        told = "".join(render_error(each, color=color, tail=tail) for each in error.errors)
        return told + _sum(list(each_of(error)))
    lines: list[str] = []
    if tail and isinstance(error, CommandFailed):
        lines += excerpt_lines(error.excerpt, color)
    if tail and isinstance(error, TestFailure):
        lines += [paint("| ", DIM, color) + harmless(line, color=color) for line in error.tail]
    head, *more = error.message.split("\n")
    lines.append(
        paint(f"{word}:", BOLD + (RED if word == "error" else YELLOW), color) + " " + harmless(head)
    )
    lines += ["  " + harmless(line) for line in more]
    if error.snippet:
        lines += _snippet(error.snippet, color)
    lines += [f"  named at {harmless(str(each))}" for each in error.via]
    if error.hint:
        head, *more = error.hint.split("\n")
        lines.append(paint("hint:", CYAN, color) + " " + harmless(head))
        lines += ["  " + harmless(line.strip()) for line in more]
    return "".join(line + "\n" for line in lines)


def _sum(errors: Sequence[BuilderError]) -> str:
    """How many there are, of several."""
    if len(errors) < 2:
        return ""
    files = {each.place.file for each in errors if each.place}
    where = f" in {count(len(files), 'file')}" if files else ""
    return f"{count(len(errors), 'error')}{where}\n"


def _snippet(snippet: str, color: bool) -> list[str]:
    """The source line as it stands, then the caret, whose column must not move."""
    lines = [harmless(line.replace("\t", " ")) for line in snippet.splitlines()]
    return ["  " + (paint(line, RED, color) if not line.strip(" ^~") else line) for line in lines]
