"""The pipeline: runs are compressed by two threads, hashed and written in order by a third."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.layer.compress import Codec
from builder.layer.runs import Earlier, Fresh, Indexed, Name, Reused
from builder.oci.digest import DiffID, hasher

if TYPE_CHECKING:
    from concurrent.futures import Future

    from builder.store.store import Incoming

_Encoded = tuple[Name, bytes | bytearray, bytes]
"""Name, raw and compressed bytes of a run."""

_UNDER_WAY = 6  # runs at most, which bounds the memory


class Pipeline:
    """Takes runs in the order of the tar. The first one is kept until a second one shows that
    threads are worth their start: most layers are one run."""

    def __init__(self, incoming: Incoming, codec: Codec, earlier: Earlier | None) -> None:
        self._incoming, self._codec, self._earlier = incoming, codec, earlier
        self._hasher = hasher()
        self._first: Fresh | Reused | None = None
        self._threads: _Threads | None = None
        self._index: list[Indexed] = []
        self.size = 0

    def put(self, run: Fresh | Reused) -> None:
        self.size += run.size if isinstance(run, Reused) else len(run.data)
        if self._threads:
            self._threads.put(run)
        elif self._first is None:
            self._first = run
        else:
            self._threads = _Threads(self._encode, self._take)
            self._threads.put(self._first)
            self._threads.put(run)

    def finish(self) -> tuple[DiffID, bytes]:
        """The tar's digest, and the index of the runs for the next time."""
        if self._threads:
            self._threads.finish()
        elif self._first is not None:
            self._take(*self._encode(self._first))
        index = self._codec.name.encode() + b"\n" + b"".join(run.pack() for run in self._index)
        return DiffID("sha256:" + self._hasher.hexdigest()), index

    def close(self) -> None:
        if self._threads:
            self._threads.close()

    def _encode(self, run: Fresh | Reused) -> _Encoded:
        """In any thread, runs side by side."""
        if isinstance(run, Fresh):
            return run.name, run.data, self._codec.compress(run.data)
        assert self._earlier is not None
        compressed = self._earlier.read(run)
        return run.name, self._codec.decompress(compressed, run.size), compressed

    def _take(self, name: Name, raw: bytes | bytearray, compressed: bytes) -> None:
        """In one thread, in order."""
        self._hasher.update(raw)
        self._incoming.write(compressed)
        self._index.append(Indexed.of(name, compressed, len(raw)))


class _Threads:
    def __init__(
        self,
        encode: Callable[[Fresh | Reused], _Encoded],
        take: Callable[[Name, bytes | bytearray, bytes], None],
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor
        from queue import SimpleQueue
        from threading import Semaphore

        self._encode, self._take = encode, take
        self._pool = ThreadPoolExecutor(3)
        self._queue: SimpleQueue[Future[_Encoded] | None]
        self._queue = SimpleQueue()
        self._room = Semaphore(_UNDER_WAY)
        self._failed = False
        self._writer: Future[None] | None = self._pool.submit(self._write)

    def put(self, run: Fresh | Reused) -> None:
        self._room.acquire()
        if self._failed:
            self.finish()  # raises what ended the writer
        self._queue.put(self._pool.submit(self._encode, run))

    def _write(self) -> None:
        try:
            while (encoded := self._queue.get()) is not None:
                self._take(*encoded.result())
                del encoded
                self._room.release()
        except BaseException:
            self._failed = True
            self._room.release()  # who waits for room finds the error
            while self._queue.get() is not None:
                self._room.release()
            raise

    def finish(self) -> None:
        self._queue.put(None)
        writer, self._writer = self._writer, None
        assert writer is not None  # finish() is called once
        writer.result()

    def close(self) -> None:
        self._queue.put(None)
        self._pool.shutdown(wait=True, cancel_futures=True)
