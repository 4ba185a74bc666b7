"""A proxy on loopback before a real registry: records every request and injects faults.

It stands for the registry itself (the Host header is passed on, so that upload Locations lead back
to it) and listens on a free port of 127.0.0.1.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 1 << 16
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}


@dataclass
class Fault:
    """What happens to the requests that match. Sizes are bytes, times seconds."""

    method: str
    path: str  # regular expression, searched in path and query
    times: int = 1
    after: int = 0  # matching requests that are let through first
    status: int = 0  # answer this instead of asking the registry
    headers: Mapping[str, str] = field(default_factory=dict)  # of that answer, or put over the real
    body: bytes = b""
    cut_request: int | None = None  # pass on this much of the body, then reset the connection
    cut_answer: int | None = None  # send this much of the answer's body, then close
    flip: int | None = None  # flip a bit in this byte of the answer's body
    keep: bool = False  # with cut_request: the registry keeps what it got, as some do
    pause: float = 0.0  # before every block of the answer's body
    block: int = BLOCK
    hang: float = 0.0  # before the answer's header
    drop_query: bool = False
    add_body: bytes = b""  # behind the real body, with the length put right


@dataclass
class Seen:
    """One request as it came in."""

    port: int
    method: str
    path: str
    authorization: str | None
    body: int


class Proxy:
    """host:port is `name`. `faults` may be changed at any time; `seen` grows."""

    def __init__(self, upstream: str, faults: list[Fault] | None = None) -> None:
        self.upstream, self.faults = upstream, faults or []
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.sessions: dict[str, str] = {}  # upload path -> the query that is good now
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.name = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def take(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def count(self, method: str, path: str = "") -> int:
        return sum(1 for one in self.seen if one.method == method and re.search(path, one.path))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are what this is for


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Proxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        seen = Seen(
            self.owner.port, self.command, self.path, self.headers.get("Authorization"), length
        )
        self.owner.seen.append(seen)
        fault = self.owner.take(self.command, self.path) or Fault("", "")
        time.sleep(fault.hang)
        if fault.status:
            self._skip(length)
            self._answer(fault.status, dict(fault.headers), fault.body)
            return
        self._pass_on(fault, length)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _skip(self, length: int) -> None:
        while length > 0:
            length -= len(self.rfile.read(min(BLOCK, length))) or length

    def _pass_on(self, fault: Fault, length: int) -> None:
        path = self.path.partition("?")[0] if fault.drop_query else self.path
        if fault.keep and fault.cut_request is not None:
            self._keep(fault.cut_request)
            return
        if path.partition("?")[0] in self.owner.sessions:  # a state that was moved on by _keep
            session, _, query = path.partition("?")
            digest = re.search(r"digest=[^&]+", query)
            path = f"{session}?{self.owner.sessions.pop(session)}"
            path += f"&{digest[0]}" if digest else ""
        upstream = http.client.HTTPConnection(self.owner.upstream, timeout=30)
        try:
            upstream.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.endheaders()
            left = length if fault.cut_request is None else min(length, fault.cut_request)
            while left:
                data = self.rfile.read(min(BLOCK, left))
                if not data:
                    raise ConnectionAbortedError
                upstream.send(data)
                left -= len(data)
            if fault.cut_request is not None:
                time.sleep(0.05)  # the registry shall have what it got
                self._reset()
                return
            self._relay(fault, upstream.getresponse())
        finally:
            upstream.close()

    def _keep(self, count: int) -> None:
        """Give the registry a part as a PATCH of its own, then break off."""
        upstream = http.client.HTTPConnection(self.owner.upstream, timeout=30)
        try:
            path = re.sub(r"&?digest=[^&]+", "", self.path)
            headers = {"Host": self.headers["Host"], "Content-Type": "application/octet-stream"}
            upstream.request("PATCH", path, self.rfile.read(count), headers)
            location = upstream.getresponse().headers["Location"]
            self.owner.sessions[path.partition("?")[0]] = location.partition("?")[2]
        finally:
            upstream.close()
        self._reset()

    def _relay(self, fault: Fault, answer: http.client.HTTPResponse) -> None:
        headers = {
            name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP
        }
        headers.update(fault.headers)
        if fault.add_body:
            headers["Content-Length"] = str(int(headers["Content-Length"]) + len(fault.add_body))
        self.send_response_only(answer.status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        position = 0
        while data := answer.read(fault.block):
            if fault.flip is not None and position <= fault.flip < position + len(data):
                changed = bytearray(data)
                changed[fault.flip - position] ^= 1
                data = bytes(changed)
            if fault.cut_answer is not None and position + len(data) > fault.cut_answer:
                self.wfile.write(data[: fault.cut_answer - position])
                self.wfile.flush()
                self.close_connection = True
                return
            time.sleep(fault.pause)
            self.wfile.write(data)
            position += len(data)
        self.wfile.write(fault.add_body)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
