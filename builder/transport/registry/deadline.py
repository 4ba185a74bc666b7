"""Deadline: connections that give up when an answer's header is not there in time.

urllib3's read timeout starts anew with every byte; a server that sends its header drop by drop
would hold us for hours.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse


class _Deadline:
    """Mixed into a connection: shuts its socket when the header takes longer than a read may."""

    sock: socket.socket | None
    timeout: Any  # seconds; urllib3 sets the read timeout before it asks for the answer

    def getresponse(self) -> HTTPResponse:
        seconds = self.timeout
        if not isinstance(seconds, (int, float)):
            return super().getresponse()  # type: ignore[misc,no-any-return]  # the connection's
        timer = threading.Timer(seconds, self._shut)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()  # type: ignore[misc,no-any-return]  # the connection's
        finally:
            timer.cancel()

    def _shut(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]  # suppressed


class _Http(_Deadline, HTTPConnection):  # type: ignore[misc]  # http.client types it otherwise
    pass


class _Https(_Deadline, HTTPSConnection):  # type: ignore[misc]  # the same
    pass


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https


def with_deadline(manager: Any) -> Any:
    """The same PoolManager, its connections with the deadline."""
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager
