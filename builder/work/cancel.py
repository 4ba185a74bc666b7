"""Cancel: one word from the main thread to all that works for it.

Work in other threads ends as it does in the main thread at Ctrl-C: an exception is raised wherever
it is, and what it began is undone on the way out. What waits in the system meanwhile has said how
to end that.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Cancelled(BaseException):  # no fault, which handlers of faults may take for theirs
    """The work was cancelled; whoever did that knows why, so this is shown to nobody."""


def raise_in(thread: int) -> None:
    """Let Cancelled be raised in a thread, by its ident, as soon as it runs Python again."""
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Cancelled))


class Cancel:
    """Set once, by the thread that signals reach. What waits in another thread for a process, an
    engine or a server has said how to end it, and is ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._ends: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        with self._lock:
            self._set = True
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(Exception):  # it has ended by itself
                end()

    def check(self) -> None:
        """Raises Cancelled."""
        if self._set:
            raise Cancelled

    @contextlib.contextmanager
    def ending(self, end: Callable[[], object]) -> Iterator[None]:
        """Around what `end`, called from another thread and quick, makes come to its end. Raises
        Cancelled, before or after, when that was asked for."""
        with self._lock:
            self.check()
            self._ends.append(end)
        try:
            yield
        except Exception:
            self.check()  # rather than what the end looked like from here
            raise
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._ends.remove(end)
        self.check()
