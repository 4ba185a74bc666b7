"""Download: a file of the web into the store, known beforehand by its checksum.

It goes on where it broke off, also where an earlier run did. Whether the bytes fit together is for
the checksum to say: what was put together of two answers and is wrong is asked for once more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urldefrag

from builder.errors import TransportError
from builder.events import Emit, ignore
from builder.oci.digest import Digest, hex_of
from builder.oci.image import Descriptor, encode
from builder.spec.address import Checksum, check_download
from builder.store.partial import Partial, forget_old
from builder.store.records import parse_object
from builder.transport.registry.http import Http, Response, retry_after
from builder.transport.registry.network import Lost, Network, PlainHttp, Unreachable
from builder.transport.registry.origin import Origin, is_loopback, parse_origin, shown
from builder.transport.registry.settings import Settings
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    from builder.store.store import Store

BYTES = "application/octet-stream"
Progress = Callable[[int, int | None], object]
"""Told how many bytes are there, and of how many; None: not known."""

_PIECE = 1 << 20
_PROGRESS = 1 << 20  # bytes after which earlier failures are forgotten
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


def find(store: Store, checksum: Checksum) -> Descriptor | None:
    """The blob with this checksum, if it is in the store."""
    if checksum.algorithm == "sha256":
        blob = store.blob(Digest(f"sha256:{checksum.digest}"), BYTES)
    else:
        known = parse_object(store.load("memos", f"checksum-{_name(checksum)}")) or {}
        digest = known.get(checksum.digest)
        is_digest = isinstance(digest, str) and re.fullmatch("sha256:[0-9a-f]{64}", digest)
        blob = store.blob(Digest(str(digest)), BYTES) if is_digest else None
    return blob if blob and store.claim(blob) else None


class Downloads:
    """Fetches for one run. Safe for threads; `close` ends the connections."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        environment: Mapping[str, str] = {},  # read only
        emit: Emit = ignore,
        cancel: Cancel | None = None,
    ) -> None:
        self._store, self._environment = store, environment
        self._cancel = cancel or Cancel()
        self._network = Network(settings)
        self._http = Http(self._network, emit, plain=True)

    def close(self) -> None:
        self._network.close()

    def fetch(
        self, url: str, checksum: Checksum, progress: Progress = lambda done, total: None
    ) -> Descriptor:
        """The blob, which comes if it is not here yet. Raises TransportError, StoreError."""
        check_download(url)
        store, name = self._store, _name(checksum)
        with store.lock(f"download-{name}", shown(url)):
            if found := find(store, checksum):
                return found
            forget_old(store.folder)
            partial = Partial(store.folder, name, checksum.algorithm)
            try:
                with self._cancel.ending(self._network.stopped.set):
                    address = urldefrag(url).url
                    authorization = _Netrc.find(address, self._environment)
                    blob = _Coming(
                        store, self._http, address, checksum, partial, progress, authorization
                    ).bring()
            finally:
                partial.close()
            store.forget("memos", _Coming.note(checksum))
            if checksum.algorithm != "sha256":
                known = encode({checksum.digest: blob.digest})
                store.remember("memos", f"checksum-{name}", known)
            return blob

    def current(self, url: str, progress: Progress = lambda done, total: None) -> Digest:
        """The digest of what an address gives now; the blob is in the store then. Where the server
        tells which version it has (ETag, Last-Modified), one that is here does not come again.
        Raises TransportError, StoreError."""
        check_download(url)
        store, address = self._store, urldefrag(url).url
        name = hex_of(f"current:{address}".encode())
        with store.lock(f"download-{name}", shown(url)):
            forget_old(store.folder)
            partial = Partial(store.folder, name, "sha256")
            try:
                with self._cancel.ending(self._network.stopped.set):
                    authorization = _Netrc.find(address, self._environment)
                    http = self._http
                    return _Current(store, http, address, partial, progress, authorization).bring()
            finally:
                partial.close()


def _name(checksum: Checksum) -> str:
    return hex_of(f"{checksum.algorithm}:{checksum.digest}".encode())


class _Version(NamedTuple):
    """Which state of a resource an answer is of, as far as the server tells."""

    url: str
    etag: str
    modified: str

    @classmethod
    def of(cls, url: str, response: Response) -> _Version:
        tags = (response.header("ETag") or "", response.header("Last-Modified") or "")
        return cls(url, *(each.strip()[:200] for each in tags))

    @property
    def condition(self) -> str:
        """For If-Range, which takes no weak tag (RFC 9110 section 13.1.5)."""
        return self.etag if self.etag.startswith('"') else self.modified


class _Restart(Exception):
    """What is here does not fit what the server has."""


class _Coming:
    """One file on its way into `partial`."""

    def __init__(
        self,
        store: Store,
        http: Http,
        url: str,
        checksum: Checksum,
        partial: Partial,
        progress: Progress,
        authorization: _Netrc | None,
    ) -> None:
        self._store, self._http, self._url = store, http, url
        self._checksum, self._partial, self._progress = checksum, partial, progress
        self._authorization = authorization
        self._pieces = 1 if partial.size else 0  # answers that the bytes here are put together of
        self._type = ""

    @staticmethod
    def note(checksum: Checksum) -> str:
        """The entry that says which version a partial is of."""
        return f"partial-{_name(checksum)}"

    def bring(self) -> Descriptor:
        partial, last = self._partial, False
        if partial.size and partial.hexdigest() == self._checksum.digest:
            return partial.publish(BYTES)  # a run was killed just before it did this
        while True:
            self._receive()
            if partial.hexdigest() == self._checksum.digest:
                return partial.publish(BYTES)
            if self._pieces == 1 or last:
                break
            last = True
            self._restart()
        wrong, size = partial.hexdigest(), partial.size
        partial.drop()
        checksum = self._checksum
        kind = f" of {self._type}" if self._type else ""
        raise TransportError(
            f"{shown(self._url)}: {checksum.algorithm} {wrong} came ({size} bytes{kind}),"
            f" expected {checksum.digest}",
            "find out what changed there; if that is meant, write the new one into the spec",
        )

    def _receive(self) -> None:
        """All that is left of the body, however often it breaks off, as long as more comes than
        ever came before."""
        partial, failures, mark = self._partial, 0, self._partial.size
        while True:
            try:
                answer = self._ask()  # which has tried often enough by itself
            except _Restart:
                self._restart()
                failures += 1
                if failures >= self._http.network.settings.tries:
                    raise TransportError(
                        f"{shown(self._url)}: the server sends other parts than it is asked for"
                    ) from None
                continue
            try:
                self._take(answer)
                return
            except Lost:
                if partial.size - mark >= _PROGRESS:
                    mark, failures = partial.size, 0
                failures += 1
                http = self._http
                if failures >= http.network.settings.tries:
                    raise
                http.network.wait(http.pause(failures - 1))

    def _take(self, response: Response) -> None:
        """The body of an answer. Raises Lost."""
        partial, url = self._partial, self._url
        try:
            if partial.size == 0:
                version = _Version.of(url, response)
                self._store.remember("memos", self.note(self._checksum), encode(version._asdict()))
            self._pieces += 1
            self._type = (response.header("Content-Type") or "").partition(";")[0].strip()[:60]
            total = self._total(response)
            if total:
                partial.check_room(total - partial.size)
            self._progress(partial.size, total)
            told = partial.size
            while data := response.read(_PIECE):
                partial.write(data)
                if partial.size - told >= _PIECE or partial.size == total:
                    told = partial.size
                    self._progress(told, total)
            if total and partial.size < total:  # a part of the part that was asked for
                raise Lost(f"{shown(url)}: it ended {total - partial.size} bytes early")
        finally:
            response.close()

    def _total(self, response: Response) -> int | None:
        """Bytes of the whole file, as far as the answer tells."""
        found = _RANGE.fullmatch((response.header("Content-Range") or "").strip())
        if response.status == 206 and found and found[3] != "*":
            return int(found[3])
        return None if response.length is None else self._partial.size + response.length

    def _ask(self) -> Response:
        """The answer with what comes behind the bytes that are here."""
        partial, url = self._partial, self._url
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        known = self._known() if partial.size else None
        if partial.size:
            headers["Range"] = f"bytes={partial.size}-"
            if known and known.condition:
                headers["If-Range"] = known.condition
        response = _sent(self._http, url, headers, self._authorization)
        if response.status == 416 and partial.size:
            raise _Restart
        if response.status not in (200, 206) or (response.status == 206 and not partial.size):
            raise _refusal(response, url, self._authorization)
        try:
            if response.status == 200:
                if partial.size:
                    self._restart()
            elif not self._fits(response, known):
                raise _Restart
        except BaseException:
            response.close()
            raise
        return response

    def _fits(self, response: Response, known: _Version | None) -> bool:
        """The answer is the part that was asked for, of what is here."""
        found = _RANGE.fullmatch((response.header("Content-Range") or "").strip())
        if not found or int(found[1]) != self._partial.size:
            return False
        if known is None:
            return True
        here = _Version.of(self._url, response)
        pairs = ((known.etag, here.etag), (known.modified, here.modified))
        return all(not (mine and its) or mine == its for mine, its in pairs)

    def _known(self) -> _Version | None:
        document = parse_object(self._store.load("memos", self.note(self._checksum))) or {}
        values = [document.get(name) for name in _Version._fields]
        if not all(isinstance(each, str) and each.isprintable() for each in values):
            return None
        version = _Version(*(str(each) for each in values))
        return version if version.url == self._url else None

    def _restart(self) -> None:
        self._partial.restart()
        self._pieces = 0


class _Current:
    """What an address gives now, whatever that is, on its way into `partial`."""

    def __init__(
        self,
        store: Store,
        http: Http,
        url: str,
        partial: Partial,
        progress: Progress,
        authorization: _Netrc | None,
    ) -> None:
        self._store, self._http, self._url = store, http, url
        self._partial, self._progress, self._authorization = partial, progress, authorization
        self._note = f"current-{hex_of(url.encode())}"

    def bring(self) -> Digest:
        failures = 0
        while True:
            self._partial.restart()  # no checksum would tell that two versions were put together
            try:
                return self._once()
            except Lost:
                failures += 1
                http = self._http
                if failures >= http.network.settings.tries:
                    raise
                http.network.wait(http.pause(failures - 1))

    def _once(self) -> Digest:
        partial, url = self._partial, self._url
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        digest = self._known(headers)
        response = _sent(self._http, url, headers, self._authorization)
        try:
            if response.status == 304 and digest:
                return digest
            if response.status != 200:
                raise _refusal(response, url, self._authorization)
            total = response.length
            if total:
                partial.check_room(total)
            while data := response.read(_PIECE):
                partial.write(data)
                self._progress(partial.size, total)
            if total and partial.size < total:
                raise Lost(f"{shown(url)}: it ended {total - partial.size} bytes early")
            version = _Version.of(url, response)
        finally:
            response.close()
        blob = partial.publish(BYTES)
        note = {**version._asdict(), "digest": blob.digest}
        self._store.remember("memos", self._note, encode(note))
        return blob.digest

    def _known(self, headers: dict[str, str]) -> Digest | None:
        """The blob that came the last time and is here, with the `headers` that ask for another."""
        known = parse_object(self._store.load("memos", self._note)) or {}
        digest = re.fullmatch("sha256:([0-9a-f]{64})", str(known.get("digest")))
        if not digest or known.get("url") != self._url:
            return None
        tags = (known.get("etag"), known.get("modified"))
        for name, value in zip(("If-None-Match", "If-Modified-Since"), tags, strict=True):
            if isinstance(value, str) and value and value.isprintable():
                headers[name] = value
        there = find(self._store, Checksum("sha256", digest[1]))
        if len(headers) == 2 or there is None:
            for name in ("If-None-Match", "If-Modified-Since"):
                headers.pop(name, None)
            return None
        return there.digest


def _sent(
    http: Http, url: str, headers: Mapping[str, str], authorization: _Netrc | None
) -> Response:
    try:
        return http.send("GET", url, headers=headers, stream=True, authorizer=authorization)
    except PlainHttp as error:
        error.hint = f"write http://{parse_origin(url).name}/..., if that is meant"
        raise
    except Unreachable as error:
        if error.hint and "registry" in error.hint:
            error.hint = "is the address right?"
        raise


class _Netrc:
    """The user's name and password at one host, sent there and nowhere else, and over TLS only."""

    def __init__(self, origin: Origin, value: str, source: str) -> None:
        self.origin, self._value, self.source = origin, value, source

    def header(self, scopes: tuple[str, ...]) -> str | None:
        return self._value

    def challenged(self, headers: list[str], scopes: tuple[str, ...], used: str | None) -> bool:
        return False

    @classmethod
    def find(cls, url: str, environment: Mapping[str, str]) -> _Netrc | None:
        origin = parse_origin(url)
        path = netrc_path(environment)
        if path is None or (origin.scheme != "https" and not is_loopback(origin.host)):
            return None
        from base64 import b64encode
        from netrc import NetrcParseError, netrc

        try:
            found = netrc(path).hosts.get(origin.host)  # not what it says of all hosts
        except (OSError, UnicodeError, NetrcParseError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is malformed"
            raise TransportError(  # not chained: the reason may quote a password
                f"{path}: {why}, expected lines as: machine HOST login NAME password SECRET"
            ) from None
        if not found:
            return None
        login, _, password = found
        value = b64encode(f"{login}:{password}".encode()).decode()
        return cls(origin, f"Basic {value}", path)


def netrc_path(environment: Mapping[str, str]) -> str | None:
    """Where the user keeps names and passwords for hosts, if anywhere."""
    home = environment.get("HOME")
    path = environment.get("NETRC") or (os.path.join(home, ".netrc") if home else "")
    return path if os.path.isfile(path) else None


def _refusal(response: Response, url: str, authorization: _Netrc | None) -> TransportError:
    status, hint = response.status, None
    there = shown(response.url)
    where = shown(url) if there == shown(url) else f"{shown(url)} (now {there})"
    if status in (401, 403, 407):
        host = parse_origin(url).name
        hint = (
            f"check what {authorization.source} says of {host}"
            if authorization
            else f"a name and password can stand in ~/.netrc: machine {host} login NAME"
            " password SECRET"
        )
    elif status in (404, 410):
        hint = "there is no such file: check the address"
    elif status in (429, 503):
        seconds = retry_after(response)
        hint = "try again later" + (f": it asks to wait {seconds:.0f} s" if seconds else "")
    elif status == 206:
        hint = "it sends a part of the file though all of it was asked for"
    return TransportError(f"{where}: the server answered {status}", hint)
