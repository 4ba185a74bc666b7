"""Moving: bytes on their way, told now and then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Self

from builder.events import Emit, Transfer

_EVERY = 0.2  # seconds between two events of one transfer


class Moving:
    """One transfer, from its begin to its end (`with`); for one thread. `total` in bytes, None
    where it is not known."""

    def __init__(self, emit: Emit, what: str, total: int | None) -> None:
        self._emit, self._what, self._total = emit, what, total
        self._done, self._told = 0, 0.0

    def at(self, done: int) -> None:
        """So many bytes have come, of all."""
        self._done = done
        now = monotonic()
        if now - self._told >= _EVERY:
            self._told = now
            self._emit(Transfer(self._what, done, self._total))

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks as they are, counted."""
        for chunk in chunks:
            self.at(self._done + len(chunk))
            yield chunk

    def __enter__(self) -> Self:
        self.at(0)
        return self

    def __exit__(self, *exception: object) -> None:
        self._emit(Transfer(self._what, self._done, self._total, True))
