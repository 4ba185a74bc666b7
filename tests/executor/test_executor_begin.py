"""A command that does not begin, and one that takes too long."""

from __future__ import annotations

import os

import pytest

from builder.errors import CannotRun, CommandFailed
from builder.executor.process import Pipes, Running


def test_what_never_begins_is_not_waited_for() -> None:
    """A runtime that hangs, silent or with a word, before the command began."""
    for word in (b"", b"a word\n"):
        pipes = Pipes()
        os.write(pipes.output_end, word)
        running = Running(pipes, lambda data: None, timeout=3600, start=0.1)
        with pytest.raises(CannotRun, match="did not begin within 0 s"):
            running.follow(lambda ended: False, lambda: False)
        pipes.close()


def test_a_timeout_is_what_it_says_however_long_the_start_may_take() -> None:
    pipes = Pipes()
    running = Running(pipes, lambda data: None, timeout=0.1)
    with pytest.raises(CommandFailed, match="timeout"):
        running.follow(lambda ended: False, lambda: False)
    pipes.close()
