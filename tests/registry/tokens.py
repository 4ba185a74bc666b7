"""A token server for docker-registry (distribution's token authentication), on loopback.

`ann` with `s3cret-pw`, or with the identity token `refresh-1`, may do everything, nobody may pull
from `public/`. Tokens are JWTs signed by openssl with a key whose certificate the registry trusts.
"""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

BASIC = "Basic " + base64.b64encode(b"ann:s3cret-pw").decode()


class TokenServer:
    """`seen` holds (method, query or form, Authorization) of every request."""

    def __init__(self, folder: Path) -> None:
        self.key, self.certificate = folder / "token.key", folder / "token.crt"
        words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tokens -keyout KEY -out CERT"
        files = {"KEY": str(self.key), "CERT": str(self.certificate)}
        argv = ["openssl", *(files.get(word, word) for word in words.split())]
        subprocess.run(argv, check=True, capture_output=True)
        self.seen: list[tuple[str, dict[str, list[str]], str | None]] = []
        self.issued: list[str] = []
        self.expires_in = 300
        self.extra_header: dict[str, str] = {}
        self.status = 0  # answer this instead of a token
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self._answer(parse_qs(urlsplit(self.path).query))

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self._answer(parse_qs(self.rfile.read(length).decode()))

            def _answer(self, fields: dict[str, list[str]]) -> None:
                authorization = self.headers.get("Authorization")
                owner.seen.append((self.command, fields, authorization))
                known = authorization == BASIC or fields.get("refresh_token") == ["refresh-1"]
                claimed = authorization is not None or "refresh_token" in fields
                scopes = [each for one in fields.get("scope", []) for each in one.split()]
                token = owner.issue(fields.get("service", [""])[0], scopes, known)
                if owner.status:
                    status, document = owner.status, {"details": "no"}
                elif claimed and not known:
                    status, document = 401, {"details": "incorrect username or password"}
                else:
                    status, document = 200, {"token": token, "expires_in": owner.expires_in}
                body = json.dumps(document).encode()
                self.send_response_only(status)
                self.send_header("Content-Length", str(len(body)))
                for name, value in owner.extra_header.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.realm = f"http://127.0.0.1:{self.server.server_address[1]}/token"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def auth(self) -> str:
        """The auth part of the registry's config."""
        return (
            f"auth: {{token: {{realm: '{self.realm}', service: 'reg, one', issuer: tokens,"
            f" rootcertbundle: {self.certificate}}}}}\n"
        )

    def issue(self, service: str, scopes: list[str], known: bool) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.rsplit(":", 2) if scope.count(":") >= 2 else ("", "", "")
            granted = actions.split(",")
            if not known:
                granted = ["pull"] if name.startswith("public/") and "pull" in granted else []
            access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        claims = {"iss": "tokens", "sub": "ann", "aud": service, "exp": now + 300}
        claims |= {"nbf": now - 10, "iat": now, "jti": str(len(self.issued)), "access": access}
        pem = self.certificate.read_text().split("-----")[2].replace("\n", "")
        signed = ".".join(
            _part(each) for each in ({"typ": "JWT", "alg": "RS256", "x5c": [pem]}, claims)
        )
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.key)],
            input=signed.encode(),
            capture_output=True,
            check=True,
        ).stdout
        self.issued.append(f"{signed}.{_base64(signature)}")
        return self.issued[-1]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _part(document: object) -> str:
    return _base64(json.dumps(document).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
