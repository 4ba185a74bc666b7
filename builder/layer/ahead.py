"""Reading ahead: a thread decompresses and checks the next bytes while these are written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from queue import SimpleQueue
    from threading import Semaphore

_CHUNK = 1 << 20
_UNDER_WAY = 4  # chunks at most, which bounds the memory


@contextlib.contextmanager
def ahead(stream: BinaryIO) -> Iterator[BinaryIO]:
    """`stream`, read by a thread until the block ends; within it nobody else may read it. What
    reading it raises is raised where those bytes would come."""
    from queue import SimpleQueue
    from threading import Semaphore, Thread

    queue: SimpleQueue[bytes | BaseException] = SimpleQueue()
    room = Semaphore(_UNDER_WAY)
    over = False

    def fill() -> None:
        try:
            while True:
                room.acquire()
                if over:
                    return
                data = stream.read(_CHUNK)
                queue.put(data)
                if not data:
                    return
        except BaseException as error:
            queue.put(error)

    thread = Thread(target=fill, name="ahead", daemon=True)
    thread.start()
    try:
        yield cast(BinaryIO, _Ahead(queue, room))
    finally:
        over = True
        room.release()
        thread.join()


class _Ahead:
    def __init__(self, queue: SimpleQueue[bytes | BaseException], room: Semaphore) -> None:
        self._queue, self._room = queue, room
        self._data = b""
        self._end = False

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, b"" at the end; fewer are normal."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        if not self._data and size and not self._end:
            item = self._queue.get()
            self._room.release()
            if isinstance(item, BaseException):
                self._end = True
                raise item
            self._data, self._end = item, not item
        data, self._data = self._data[:size], self._data[size:]
        return data

    def readable(self) -> bool:
        return True
