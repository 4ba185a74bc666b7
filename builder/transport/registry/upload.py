"""Upload: one blob into one repository: mounted, or sent whole, or in parts where that failed.

Source: distribution-spec, Pushing blobs. After a failure the registry is asked how far it got.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol
from urllib.parse import quote

from builder.errors import BuilderError, TransportError
from builder.oci.digest import parse_digest
from builder.oci.image import Descriptor
from builder.transport.registry.client import Client
from builder.transport.registry.faults import refusal
from builder.transport.registry.http import RETRIED, Response
from builder.transport.registry.network import Lost

_BLOCK = 1 << 19  # bytes a single send must get rid of within the idle timeout
_PROGRESS = 1 << 20  # bytes after which earlier failures are forgotten
_CHUNK = 16 << 20  # where whole blobs are refused as too large
_RESTARTS = 2
_RANGE = re.compile(r"(?:bytes[ =])?0-(\d{1,19})")


class Source(Protocol):
    """A blob's bytes; checks them itself (store.open does)."""

    def readinto(self, buffer: bytearray, /) -> int | None: ...
    def close(self) -> None: ...


class Uploaded(NamedTuple):
    mounted: bool
    bytes: int  # of the blob that went over the wire, repeated ones counted again


def upload(
    client: Client,
    blob: Descriptor,
    mount_from: str | None,
    open_source: Callable[[], Source],
    told: Callable[[int], None] = lambda done: None,
) -> Uploaded:
    """Make the repository have `blob`. `mount_from`: a repository of the same registry that
    probably has it; where the registry will not mount, `open_source` gives the bytes. `told` hears
    how many of them were sent."""
    return _Upload(client, blob, open_source, told).run(mount_from)


class _Upload:
    def __init__(
        self,
        client: Client,
        blob: Descriptor,
        open_source: Callable[[], Source],
        told: Callable[[int], None],
    ) -> None:
        self.client, self.blob, self.open_source, self.told = client, blob, open_source, told
        self.location = ""
        self.offset = 0  # bytes that the registry has
        self.sent = 0
        self.chunk = 0  # bytes per PATCH; 0: the whole rest at once

    def run(self, mount_from: str | None) -> Uploaded:
        if self._begin(mount_from):
            return Uploaded(True, 0)
        failures = restarts = mark = 0
        http = self.client.http
        tries = http.network.settings.tries
        while True:
            lost: Lost | None = None
            response: Response | None = None
            try:
                response = self._send()
            except Lost as error:
                lost = error
            if response is not None and response.status in (200, 201, 204):
                self._check(response)
                return Uploaded(False, self.sent)
            if response is not None and response.status == 202:
                continue  # a part arrived
            alive = True
            if response is None or response.status in (*RETRIED, 401):
                if self.offset - mark >= _PROGRESS:
                    mark, failures = self.offset, 0
                failures += 1
                if failures >= tries or (
                    response is not None and response.status == 401 and failures > 2
                ):
                    if response is None:
                        raise lost or Lost(self._what)
                    raise self._refusal(response)
                if response is None or response.status == 401:
                    http.network.wait(http.pause(failures - 1) if response is None else 0)
                else:
                    http.hold(response, failures - 1)
            elif response.status == 413 and not self.chunk and self.blob.size > _CHUNK:
                self.chunk = _CHUNK
            elif response.status == 416:
                restarts += 1
            elif response.status in (404, 410) or _is_garbled(response, self):
                alive = False
            else:
                raise self._refusal(response)
            if alive and restarts <= _RESTARTS and self._ask():
                continue
            if self.client.has_blob(self.blob, self.client.push_scope):
                return Uploaded(False, self.sent)  # only the answer was lost
            if not alive or restarts > _RESTARTS:
                restarts += 1
            if restarts > _RESTARTS:
                raise self._refusal(response) if response is not None else lost or Lost(self._what)
            self._begin(None)

    def _begin(self, mount_from: str | None) -> bool:
        """Open an upload session; True when the blob was mounted instead."""
        client = self.client
        url = client.url("blobs/uploads/")
        response = None
        if mount_from:
            query = f"?mount={quote(self.blob.digest, safe='')}&from={quote(mount_from, safe='')}"
            scopes = (*client.push_scope, f"repository:{mount_from}:pull")
            response = self._post(url + query, scopes)
            if response.status == 201:
                self._check(response)
                return True
        if response is None or response.status != 202:  # no right to mount from there
            response = self._post(url, client.push_scope)
        if response.status != 202:
            raise self._refusal(response)
        self._locate(response)
        self.offset = 0
        return False

    def _post(self, url: str, scopes: tuple[str, ...]) -> Response:
        return self.client.http.send(
            "POST",
            url,
            headers={"Content-Length": "0"},
            authorizer=self.client.authorizer,
            scopes=scopes,
        )

    def _send(self) -> Response:
        """The whole blob by PUT; the rest of one by PATCH, then an empty PUT."""
        if not self.offset and not self.chunk:
            return self._put(self._body(0, self.blob.size), self.blob.size)
        end = min(self.blob.size, self.offset + self.chunk) if self.chunk else self.blob.size
        if self.offset < self.blob.size:
            response = self.client.http.send(
                "PATCH",
                self.location,
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(end - self.offset),
                    "Content-Range": f"{self.offset}-{end - 1}",
                },
                body=self._body(self.offset, end),
                authorizer=self.client.authorizer,
                scopes=self.client.push_scope,
                again=False,
            )
            if response.status not in (202, 204):
                return response
            self._locate(response)
            self.offset = end
            if end < self.blob.size:
                return response
        return self._put(None, 0)

    def _put(self, body: Callable[[], Iterator[memoryview]] | None, length: int) -> Response:
        joint = "&" if "?" in self.location else "?"
        return self.client.http.send(
            "PUT",
            f"{self.location}{joint}digest={quote(self.blob.digest, safe='')}",
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(length),
            },
            body=body,
            authorizer=self.client.authorizer,
            scopes=self.client.push_scope,
            again=False,
        )

    def _body(self, start: int, end: int) -> Callable[[], Iterator[memoryview]]:
        def blocks() -> Iterator[memoryview]:
            """Read from the first byte, so that the source can check all it reads."""
            source, buffer = self.open_source(), bytearray(_BLOCK)
            network = self.client.http.network
            try:
                position = 0
                view = memoryview(buffer)
                while position < end:
                    count = source.readinto(buffer) or 0
                    if not count:
                        raise TransportError(f"{self._what}: its bytes end at {position}")
                    part = view[max(0, start - position) : min(count, end - position)]
                    position += count
                    if part:
                        if network.stopped.is_set():
                            raise Lost("stopped")
                        yield part
                        self.sent += len(part)
                        self.told(position)
            finally:
                source.close()

        return blocks

    def _ask(self) -> bool:
        """Learn from the registry how much it has; False when the session is gone."""
        response = self.client.http.send(
            "GET",
            self.location,
            authorizer=self.client.authorizer,
            scopes=self.client.push_scope,
        )
        if response.status not in (200, 202, 204):
            return False
        found = _RANGE.fullmatch((response.header("Range") or "").strip())
        if not found:
            return False
        last = int(found[1])
        self.offset = last + 1 if last else 0  # docker-registry writes 0-0 for nothing, too
        if response.header("Location"):
            self._locate(response)
        return self.offset <= self.blob.size

    def _locate(self, response: Response) -> None:
        """The session's next address: may be relative, on another host, with a query to keep."""
        location = response.header("Location")
        if not location:
            raise TransportError(f"{self._what}: the registry did not say where to send it")
        self.location = self.client.http.join(response.url, location)

    def _check(self, response: Response) -> None:
        said = response.header("Docker-Content-Digest")
        if said is None:
            return
        try:
            agreed = parse_digest(said) == self.blob.digest
        except BuilderError:
            agreed = False
        if not agreed:
            raise TransportError(f"{self._what}: the registry stored {said[:80]!r} instead")

    @property
    def _what(self) -> str:
        return f"push of {self.client.name.name}@{self.blob.digest}"

    def _refusal(self, response: Response) -> TransportError:
        return refusal(self._what, response, self.client.authorizer)


def _is_garbled(response: Response, upload: _Upload) -> bool:
    """The registry got other bytes than were sent; ours were checked on the way out."""
    return response.status == 400 and b"DIGEST_INVALID" in response.body
