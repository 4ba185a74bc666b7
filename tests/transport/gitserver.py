"""A git server on loopback: `git http-backend` behind http.server, as real servers have it."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Repository:
    """A repository to commit to, at `path`; the server's `root` holds it."""

    def __init__(self, path: Path, kind: str = "sha1") -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", f"--object-format={kind}", "-b", "main")

    def git(self, *words: str, data: bytes | None = None) -> str:
        me = {"NAME": "n", "EMAIL": "e@h", "DATE": "1000000000 +0000"}
        who = {f"GIT_{of}_{what}": me[what] for of in ("AUTHOR", "COMMITTER") for what in me}
        settings = ("-c", "protocol.file.allow=always", "-c", "core.protectNTFS=false")
        done = subprocess.run(
            ["git", *settings, *words], cwd=self.path, input=data, capture_output=True, check=True,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **who},
        )  # fmt: skip
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def commit(self, files: dict[str, bytes | str | None] | None = None) -> str:
        """Write files (text: a symlink; None: removed), commit all; the commit's id."""
        for name, data in (files or {}).items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if isinstance(data, bytes):
                path.write_bytes(data)
            elif data is not None:
                path.symlink_to(data)
        self.git("add", "--all", "--force", ".")
        self.git("commit", "--quiet", "--allow-empty", "--no-verify", "-m", "it")
        return self.git("rev-parse", "HEAD")


class GitServer:
    """`url` + a repository's folder below `root` is its address. `old`: it speaks protocol 0, in
    which only branches and tags may be asked for. `user`: who may, "name:password" in base64.
    `hang`: it takes requests and says nothing."""

    def __init__(self, root: Path, tls: tuple[str, str] | None = None) -> None:
        self.root, self.old, self.user, self.hang = root, False, "", False
        self.moved = ""
        self.requests: list[str] = []
        self.sent = 0
        owner = self

        class Handler(_Handler):
            server_of = owner

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads, self.server.block_on_close = True, False
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_address[1]}/"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    server_of: GitServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        owner = self.server_of
        owner.requests.append(f"{self.command} {self.path}")
        while owner.hang:
            time.sleep(0.05)
        if owner.moved:
            self.send_response(301)
            self.send_header("Location", owner.moved + self.path.lstrip("/"))
            self.end_headers()
            return
        if owner.user and self.headers.get("Authorization") != f"Basic {owner.user}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="it"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
        }
        if not owner.old:
            environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol") or ""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, env=environment
        )
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().splitlines() if ": " in line]
        status = next((int(v.split()[0]) for name, v in lines if name == "Status"), 200)
        self.send_response(status)
        for name, value in lines:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        owner.sent += len(rest)
        self.wfile.write(rest)

    do_POST = do_GET
