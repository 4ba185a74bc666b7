"""A web server on loopback that serves one file and does what a list of faults says."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """What one answer does. Sizes are bytes, times seconds."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False  # before the answer's header
    cut: int | None = None  # close after so much of this answer's body
    length: str | None = "right"  # right | none (until it closes) | chunked | a number
    ranges: bool = True
    range_off: int = 0  # added to the first byte of a range's answer
    short_range: int | None = None  # of a range: answer with at most so many bytes
    pause: float = 0.0  # before every 64 kB
    hang: float = 0.0  # before the header


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    sent: int = 0


class Site:
    """`url` leads to `data`. `faults` are used up, one a request; what it was asked for is `seen`.
    `data` may be changed at any time, with `etag` and `modified` beside it."""

    def __init__(self, data: bytes, tls: tuple[str, str] | None = None) -> None:
        self.data, self.etag, self.modified = data, '"1"', ""
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        site = self

        class Handler(_Handler):
            owner = site

        self.server = _Server(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.base = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{self.base}/file.bin"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

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
    owner: Site

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.owner
        seen = Seen(self.path, dict(self.headers.items()))
        site.seen.append(seen)
        fault = site.faults.pop(0) if site.faults else Fault()
        time.sleep(fault.hang)
        if fault.reset:
            self.close_connection = True
            return
        if fault.status:
            self.send_response_only(fault.status)
            for name, value in {"Content-Length": "0", **fault.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            return
        if site.etag and self.headers.get("If-None-Match") == site.etag:
            self.send_response_only(304)
            self.end_headers()
            return
        self._file(fault, seen, site.data, site.etag, site.modified)

    def _file(self, fault: Fault, seen: Seen, data: bytes, etag: str, modified: str) -> None:
        start, end, status = 0, len(data), 200
        wanted = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if wanted and fault.ranges and condition in (None, etag, modified):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_response_only(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start, status = max(0, start + fault.range_off), 206
            end = min(end, start + (fault.short_range or end))
        self.send_response_only(status)
        body = data[start:end]
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        if fault.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif fault.length == "none":
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            length = len(body) if fault.length == "right" else int(fault.length or 0)
            self.send_header("Content-Length", str(length))
        for name, value in {"ETag": etag, "Last-Modified": modified, **fault.headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        stop = len(body) if fault.cut is None else fault.cut
        for at in range(0, min(len(body), stop), 65536):
            time.sleep(fault.pause)
            piece = body[at : min(at + 65536, stop)]
            if fault.length == "chunked":
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                self.wfile.write(piece)
            seen.sent += len(piece)
        if fault.cut is not None or fault.length not in ("right", "chunked"):
            self.close_connection = True
        elif fault.length == "chunked":
            self.wfile.write(b"0\r\n\r\n")
