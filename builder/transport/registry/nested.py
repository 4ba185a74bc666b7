"""Nested: a connection in TLS through a proxy that is spoken to in TLS itself.

Neither http.client nor ssl can put TLS into TLS; urllib3's transport can.
"""

from __future__ import annotations

import http.client
import socket
import ssl

from urllib3.util.ssltransport import SSLTransport


class NestedConnection(http.client.HTTPConnection):
    """`outer`: TLS with the proxy at host:port; `inner`: with whom `set_tunnel` names."""

    def __init__(
        self, host: str, port: int, timeout: float, outer: ssl.SSLContext, inner: ssl.SSLContext
    ) -> None:
        super().__init__(host, port, timeout=timeout)
        self._outer, self._inner = outer, inner
        self._create_connection = self._to_proxy  # which connect() calls

    def set_tunnel(self, host: str, port: int | None = None, headers: object = None) -> None:
        self._far = host
        super().set_tunnel(host, port, headers)  # type: ignore[arg-type]  # passed on

    def connect(self) -> None:
        super().connect()  # and asks the proxy for the tunnel
        self.sock = SSLTransport(self.sock, self._inner, self._far)

    def _to_proxy(self, address: tuple[str, int], timeout: float, source: None) -> socket.socket:
        plain = socket.create_connection(address, timeout, source)
        try:
            return self._outer.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
