"""Download: a blob as a stream that goes on where a broken connection left off."""

from __future__ import annotations

import re
from collections.abc import Callable

from builder.errors import TransportError
from builder.oci.digest import digest_of
from builder.oci.image import Descriptor
from builder.transport.registry.client import Client
from builder.transport.registry.faults import refusal
from builder.transport.registry.http import Response
from builder.transport.registry.network import Lost

_PROGRESS = 1 << 20  # bytes after which earlier failures are forgotten
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class Download:
    """The bytes of `blob`, in order, exactly as many as its descriptor says.

    Whether they are the right ones is for the reader to check: nothing is hashed here. Raises
    TransportError when the registry refuses, says another size, or breaks off again and again.
    """

    def __init__(
        self, client: Client, blob: Descriptor, told: Callable[[int], None] = lambda done: None
    ) -> None:
        """`told` hears how many bytes have come."""
        self._client, self._blob, self._told = client, blob, told
        self._offset = self._mark = 0
        self._failures = 0
        self._response: Response | None = None

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, b"" at the end. -1: as much as comes at once."""
        size = size if size >= 0 else _PROGRESS
        while True:
            try:
                return self._read(size)
            except Lost:
                self.close()
                if self._offset - self._mark >= _PROGRESS:
                    self._mark, self._failures = self._offset, 0
                self._failures += 1
                http = self._client.http
                if self._failures >= http.network.settings.tries:
                    raise
                http.network.wait(http.pause(self._failures - 1))

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _read(self, size: int) -> bytes:
        left = self._blob.size - self._offset
        if left == 0 and self._offset:
            if self._response is not None:
                if self._response.read(1):
                    raise self._wrong(f"more than the {self._blob.size} bytes that it should have")
                self.close()
            return b""
        if self._response is None:
            self._response = self._open()
            if not self._blob.size:
                self.close()
                return b""
        data = self._response.read(min(size, left))
        if not data:
            raise Lost(f"{self._what}: it ended {left} bytes early")
        self._offset += len(data)
        self._told(self._offset)
        return data

    def _open(self) -> Response:
        client, offset = self._client, self._offset
        response = client.http.send(
            "GET",
            client.url(f"blobs/{self._blob.digest}"),
            headers={"Range": f"bytes={offset}-"} if offset else {},
            authorizer=client.authorizer,
            scopes=client.pull_scope,
            stream=True,
        )
        if response.status not in (200, 206):
            raise refusal(self._what, response, client.authorizer)
        try:
            self._check(response)
            if offset and response.status == 200:  # ranges are not served: skip what is here
                while offset:
                    skipped = len(response.read(min(offset, _PROGRESS)))
                    if not skipped:
                        raise Lost(f"{self._what}: it ended early")
                    offset -= skipped
        except BaseException:
            response.close()
            raise
        return response

    def _check(self, response: Response) -> None:
        left = self._blob.size
        if response.status == 206:
            text = response.header("Content-Range") or ""
            found = _RANGE.fullmatch(text.strip())
            if not found or int(found[1]) != self._offset:
                raise self._wrong(f"asked for byte {self._offset} the registry sends {text[:60]!r}")
            if found[3] not in ("*", str(self._blob.size)):
                raise self._wrong(f"of {found[3]} bytes, its descriptor says {self._blob.size}")
            left -= self._offset
        if response.length not in (None, left):
            raise self._wrong(f"{response.length} bytes to come, expected {left}")

    @property
    def _what(self) -> str:
        return f"{self._client.name.name}@{self._blob.digest}"

    def _wrong(self, text: str) -> TransportError:
        return TransportError(f"{self._what}: {text}")


def read_blob(client: Client, blob: Descriptor, limit: int) -> bytes:
    """A small blob whole and checked, asked for once more if its bytes were wrong."""
    if blob.size > limit:
        raise TransportError(
            f"{client.name.name}@{blob.digest}: {blob.size} bytes, at most {limit}"
        )
    data = b""
    for _ in range(2):
        download = Download(client, blob)
        try:
            data = b"".join(iter(lambda: download.read(1 << 16), b""))  # noqa: B023  # used at once
        finally:
            download.close()
        if digest_of(data) == blob.digest:
            return data
    raise TransportError(
        f"{client.name.name}@{blob.digest}: its bytes have {digest_of(data)}",
        "the registry or something between has changed it",
    )
