"""Wire: http.client connections to one origin, kept while they are good, and a clock beside them.

A socket's timeout starts anew with every byte: a server that sends its header, a chunk's length or
a trailer drop by drop would hold us for hours. The clock ends every step that takes too long, and
all connections at once when the work is stopped.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

_TICK = 0.25  # seconds; how late the clock may be

Body = bytes | Iterable[bytes | memoryview] | None
Connect = Callable[[], http.client.HTTPConnection]
"""Makes a connection and connects it. Raises OSError, HTTPException, UnicodeError."""


class Clock:
    """Shuts sockets that are late, and every one that is left once `stopped` is set."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._due: dict[socket.socket, float] = {}  # monotonic seconds; inf: nothing is awaited
        self._late: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, sock: socket.socket) -> None:
        with self._lock:
            self._due[sock] = math.inf
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
        if self._stopped.is_set():
            _shut(sock)

    def join(self) -> None:
        """Wait for its end, once `stopped` is set."""
        if self._thread is not None:
            self._thread.join()

    def remove(self, sock: socket.socket) -> None:
        with self._lock:
            self._due.pop(sock, None)
            self._late.discard(sock)

    @contextlib.contextmanager
    def within(self, sock: socket.socket, seconds: float) -> Iterator[None]:
        """Around one step. Raises TimeoutError if the clock had to end it."""
        self._due[sock] = time.monotonic() + seconds
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            if sock in self._late:
                raise TimeoutError from error
            raise
        finally:
            self._due[sock] = math.inf
        if sock in self._late:
            raise TimeoutError

    def _run(self) -> None:
        while not self._stopped.wait(_TICK):
            now = time.monotonic()
            with self._lock:
                late = [sock for sock, due in self._due.items() if due < now]
                self._late.update(late)
            for sock in late:
                _shut(sock)
        with self._lock:
            left = list(self._due)
        for sock in left:
            _shut(sock)


class Pool:
    """The connections to one origin. Safe for threads."""

    def __init__(self, connect: Connect, clock: Clock) -> None:
        self._connect, self._clock = connect, clock
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def take(self) -> http.client.HTTPConnection:
        """One that is connected, to be given back or dropped."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self._connect()
                self._clock.add(raw_socket(connection))
                return connection
            if not _readable(connection):  # else it was hung up, or worse
                return connection
            self.drop(connection, raw_socket(connection))

    def give(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.append(connection)

    def drop(self, connection: http.client.HTTPConnection, sock: socket.socket) -> None:
        self._clock.remove(sock)
        connection.close()

    def clear(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self.drop(connection, raw_socket(connection))


class Answer:
    """A response whose body is on the wire still; `close` it, after its end or before."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        connection: http.client.HTTPConnection,
        sock: socket.socket,
        pool: Pool,
        clock: Clock,
        keep: bool,
    ) -> None:
        self.status = response.status
        self._response, self._connection, self._sock = response, connection, sock
        self._pool, self._clock = pool, clock
        self._keep = keep and not response.will_close
        self._ended = self._closed = False

    def header(self, name: str) -> str | None:
        value: str | None = self._response.headers.get(name)
        return value

    def headers(self, name: str) -> list[str]:
        return self._response.headers.get_all(name, [])

    def read(self, size: int, seconds: float) -> bytes:
        """What has come, at most `size` bytes; b"" at the end. Raises OSError, HTTPException."""
        with self._clock.within(self._sock, seconds):
            data = self._response.read1(size)
            if not data and self._response.length:
                raise http.client.IncompleteRead(b"", self._response.length)
        self._ended = not data
        return data

    def close(self) -> None:
        """The connection serves again if the body was read to its end."""
        if self._closed:
            return
        self._closed = True
        self._response.close()
        if self._keep and self._ended:
            self._pool.give(self._connection)
        else:
            self._pool.drop(self._connection, self._sock)


def exchange(
    pool: Pool,
    connection: http.client.HTTPConnection,
    clock: Clock,
    request: tuple[str, str, Mapping[str, str], Body],
    *,
    sending: float,
    waiting: float,
) -> Answer:
    """Send (method, target, headers, body) and read the answer's header. `sending`: seconds for a
    block of the body; `waiting`: seconds for the header. Raises OSError, HTTPException, ValueError,
    and what the body raises; then the connection is closed."""
    method, target, headers, body = request
    sock, keep = raw_socket(connection), True
    try:
        connection.sock.settimeout(sending)
        try:
            connection.request(method, target, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            keep = False  # a server may answer and hang up before it has read everything
        connection.sock.settimeout(waiting)
        with clock.within(sock, waiting):
            response = connection.getresponse()
    except BaseException:
        pool.drop(connection, sock)
        raise
    return Answer(response, connection, sock, pool, clock, keep)


def raw_socket(connection: http.client.HTTPConnection) -> socket.socket:
    """The socket below TLS within TLS, if there is such."""
    sock: socket.socket = getattr(connection.sock, "socket", connection.sock)
    return sock


def _readable(connection: http.client.HTTPConnection) -> bool:
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _shut(sock: socket.socket) -> None:
    """Wake whoever waits for it. Not the method of a TLS socket, which would fall back to reading
    without TLS."""
    with contextlib.suppress(OSError, ValueError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
