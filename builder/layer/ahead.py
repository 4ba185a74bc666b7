"""Reading ahead: threads decompress and check the next bytes of a layer while these are used."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.errors import LayerError

if TYPE_CHECKING:
    from concurrent.futures import Future
    from queue import SimpleQueue
    from threading import Semaphore

_CHUNK = 1 << 20
_UNDER_WAY = 6  # chunks at most, which bounds the memory

_Put = Callable[["bytes | Future[bytes]"], bool]


@contextlib.contextmanager
def ahead(stream: BinaryIO) -> Iterator[BinaryIO]:
    """`stream`, read by a thread until the block ends; within it nobody else may read it. What
    reading it raises is raised where those bytes would come."""

    def fill(put: _Put) -> None:
        while (data := stream.read(_CHUNK)) and put(data):
            pass

    with _filled(fill) as opened:
        yield opened


@contextlib.contextmanager
def runs_ahead(
    stream: BinaryIO, sizes: Sequence[tuple[int, int]], decompress: Callable[[bytes, int], bytes]
) -> Iterator[BinaryIO]:
    """As `ahead`, of compressed bytes in runs of known `sizes`, compressed and raw: two threads
    decompress them. `stream` is read to its end. Raises LayerError where a run is not so."""
    from concurrent.futures import ThreadPoolExecutor

    def plain(data: bytes, size: int) -> bytes:
        try:
            raw = decompress(data, size)
        except Exception as error:  # each codec has its own
            raise LayerError(f"a run of the layer is damaged: {error}") from error
        if len(raw) != size:
            raise LayerError("a run of the layer is damaged: it has another size")
        return raw

    def fill(put: _Put) -> None:
        for compressed, size in sizes:
            data = b""
            while len(data) < compressed and (more := stream.read(compressed - len(data))):
                data = data + more if data else more
            if not put(pool.submit(plain, data, size)):
                return
        if stream.read(1):
            raise LayerError("the layer is longer than its runs")

    with ThreadPoolExecutor(2) as pool, _filled(fill) as opened:
        yield opened


@contextlib.contextmanager
def _filled(fill: Callable[[_Put], None]) -> Iterator[BinaryIO]:
    """What `fill`, in a thread, puts; `put` says whether more is wanted."""
    from queue import SimpleQueue
    from threading import Semaphore, Thread

    queue: SimpleQueue[bytes | Future[bytes] | BaseException] = SimpleQueue()
    room = Semaphore(_UNDER_WAY)
    over = False

    def put(item: bytes | Future[bytes]) -> bool:
        room.acquire()
        queue.put(item)
        return not over

    def run() -> None:
        try:
            fill(put)
            queue.put(b"")
        except BaseException as error:
            queue.put(error)

    thread = Thread(target=run, name="ahead", daemon=True)
    thread.start()
    try:
        yield cast(BinaryIO, _Ahead(queue, room))
    finally:
        over = True
        room.release()
        thread.join()


class _Ahead:
    def __init__(
        self, queue: SimpleQueue[bytes | Future[bytes] | BaseException], room: Semaphore
    ) -> None:
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
            self._data = item if isinstance(item, bytes) else item.result()
            self._end = not self._data
        data = self._data
        if len(data) > size:
            data, self._data = data[:size], data[size:]
        else:
            self._data = b""
        return data

    def readable(self) -> bool:
        return True
