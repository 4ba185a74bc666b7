"""Changes to a layer: one pass that makes the tar, its diff_id, the compressed blob and its digest.

The tar is cut into runs of about a megabyte, at places that its own paths decide, and each
run becomes a gzip member or zstd frame of its own (concatenated they are one valid stream). So runs
are compressed on all cores with the same result on any machine, and memory is constant.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from builder.errors import LayerError
from builder.layer.compress import compressor
from builder.layer.entry import FILE, OPAQUE, WHITEOUT, Change, Content, Entry, HostFile
from builder.layer.header import Headers, end_of_archive, padding
from builder.oci import media
from builder.oci.digest import DiffID, Hasher, hasher
from builder.oci.image import Layer

if TYPE_CHECKING:
    from concurrent.futures import Future

    from builder.store.store import Incoming, Store

RUN = 1 << 20
_LEAST = RUN // 4


class Written(NamedTuple):
    layer: Layer
    size: int  # bytes of the uncompressed tar


def write_layer(
    changes: Iterable[Change],
    store: Store,
    codec: str = "gzip",
    level: int | None = None,
    seen: Callable[[Entry], object] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Written | None:
    """Write a layer into the store; None when there are no changes.

    `changes` come sorted as `sort_key` says, each path once. `seen` gets every entry as it is
    written, `progress` the tar bytes so far. Raises LayerError when a file is not what its entry
    says any more, StoreError when it cannot be written.
    """
    iterator = iter(changes)
    first = next(iterator, None)
    if first is None:
        return None
    with store.incoming() as incoming:
        sink = _Sink(incoming, compressor(codec, level))
        try:
            for run in _runs(first, iterator, seen):
                sink.put(run)
                if progress:
                    progress(sink.size)
            diff_id, size = sink.finish()
        finally:
            sink.close()
        blob = incoming.publish(media.LAYER_OF_CODEC[codec])
    return Written(Layer(diff_id, blob), size)


def sort_key(path: bytes) -> list[bytes]:
    """Order of a layer: parents first, bytewise by component, whiteouts before siblings."""
    parts = path.split(b"/")
    if parts[-1].startswith(WHITEOUT):
        parts[-1] = b"\0" + parts[-1]
    return parts


def _runs(
    first: Change, rest: Iterator[Change], seen: Callable[[Entry], object] | None
) -> Iterator[bytes | bytearray]:
    """Tar bytes in runs. A run ends behind an entry, once it is large enough and the entry's path
    says so: an inserted file moves the cuts around it, not all that follow. Files of a run's size
    or more stand in runs of their own."""
    header_of = Headers().of
    run = bytearray()
    previous: list[bytes] = []
    change: Change | None = first
    while change is not None:
        entry, content = change
        key = sort_key(entry.path)
        if key <= previous:
            raise LayerError(f"{entry.path!r} comes twice, or out of order")
        previous = key
        if seen:
            seen(entry)
        size = entry.size if entry.type == FILE else 0
        if size >= RUN and run:
            yield run
            run = bytearray()
        run += header_of(entry)
        if size >= RUN:
            for chunk in _stream(entry, content):
                run += chunk
                if len(run) >= RUN:
                    yield run
                    run = bytearray()
            run += bytes(padding(size))
        elif size or content is not None:
            run += _whole(entry, content)
            run += bytes(-size % 512)
        if len(run) >= RUN or (len(run) >= _LEAST and zlib.crc32(entry.path) & 7 == 0):
            yield run
            run = bytearray()
        change = next(rest, None)
    run += end_of_archive()
    yield run


def _whole(entry: Entry, content: Content) -> bytes:
    """A small file's bytes, exactly entry.size of them."""
    if isinstance(content, bytes):
        data = content
    elif isinstance(content, HostFile):
        handle = _open(entry, content.path)
        try:
            data = os.read(handle, entry.size + 1)
            while len(data) < entry.size and (more := os.read(handle, entry.size + 1 - len(data))):
                data += more
        except OSError as error:
            raise _unreadable(entry, error) from error
        finally:
            os.close(handle)
        if content.digest is not None and hasher(data).digest() != content.digest:
            raise _changed(entry)
    else:
        data = b"".join(_stream(entry, content))
    if len(data) != entry.size:
        raise _changed(entry)
    return data


def _stream(entry: Entry, content: Content) -> Iterator[bytes]:
    """A file's bytes in chunks, exactly entry.size of them in all."""
    if isinstance(content, bytes):
        if len(content) != entry.size:
            raise _changed(entry)
        yield content
        return
    wanted: bytes | None = None
    file: BinaryIO
    if isinstance(content, HostFile):
        file = os.fdopen(_open(entry, content.path), "rb", buffering=0)
        wanted = content.digest
    elif callable(content):
        file = content()
    else:
        raise LayerError(f"{entry.path!r}: a file without content")
    running = hasher() if wanted is not None else None
    left = entry.size
    with file:
        while left:
            try:
                chunk = file.read(min(left, RUN))
            except OSError as error:
                raise _unreadable(entry, error) from error
            if not chunk:
                raise _changed(entry)
            if running:
                running.update(chunk)
            left -= len(chunk)
            yield chunk
        if isinstance(content, HostFile) and file.read(1):
            raise _changed(entry)
    if running and running.digest() != wanted:
        raise _changed(entry)


def _open(entry: Entry, path: str | bytes) -> int:
    try:
        # O_NONBLOCK: a FIFO that took the file's place must not block
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(entry, error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _changed(entry)
    return handle


def _changed(entry: Entry) -> LayerError:
    return LayerError(
        f"{os.fsdecode(entry.path)!r} changed while it was read", "build again when it is at rest"
    )


def _unreadable(entry: Entry, error: OSError) -> LayerError:
    return LayerError(f"{os.fsdecode(entry.path)!r} cannot be read: {error.strerror}")


class _Sink:
    """Hashes and compresses runs in the order they come. The first run is kept until a second one
    shows that threads are worth their start: most layers are one run."""

    def __init__(self, incoming: Incoming, compress: Callable[[bytes | bytearray], bytes]) -> None:
        self._incoming = incoming
        self._compress = compress
        self._hasher = hasher()
        self._first: bytes | bytearray | None = None
        self._threads: _Threads | None = None
        self.size = 0

    def put(self, run: bytes | bytearray) -> None:
        self.size += len(run)
        if self._threads:
            self._threads.put(run)
        elif self._first is None:
            self._first = run
        else:
            self._threads = _Threads(self._hasher, self._compress, self._incoming)
            self._threads.put(self._first)
            self._threads.put(run)

    def finish(self) -> tuple[DiffID, int]:
        if self._threads:
            self._threads.finish()
        elif self._first is not None:
            self._hasher.update(self._first)
            self._incoming.write(self._compress(self._first))
        return DiffID("sha256:" + self._hasher.hexdigest()), self.size

    def close(self) -> None:
        if self._threads:
            self._threads.close()


class _Threads:
    """Two threads compress, one hashes and writes in order; at most six runs are under way."""

    def __init__(
        self, hasher: Hasher, compress: Callable[[bytes | bytearray], bytes], incoming: Incoming
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor
        from queue import SimpleQueue
        from threading import Semaphore

        self._pool = ThreadPoolExecutor(3)
        self._queue: SimpleQueue[tuple[bytes | bytearray, Future[bytes]] | None] = SimpleQueue()
        self._room = Semaphore(6)
        self._hasher, self._compress, self._incoming = hasher, compress, incoming
        self._failed = False
        self._writer: Future[None] | None = self._pool.submit(self._write)

    def put(self, run: bytes | bytearray) -> None:
        self._room.acquire()
        if self._failed:
            self.finish()  # raises what ended the writer
        self._queue.put((run, self._pool.submit(self._compress, run)))

    def _write(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                run, compressed = item
                self._hasher.update(run)
                self._incoming.write(compressed.result())
                del run, compressed, item
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


def is_opaque(entry: Entry) -> bool:
    return entry.path.rpartition(b"/")[2] == OPAQUE
