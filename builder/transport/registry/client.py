"""Client: one repository of one registry: manifests, tags, what is there.

Source: distribution-spec 1.1. Content is checked against digest, size and media type; a header that
disagrees with the bytes is refused as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from builder.errors import BuilderError, TransportError
from builder.oci import media
from builder.oci.digest import Digest, digest_of, parse_digest
from builder.oci.image import Descriptor
from builder.oci.reference import Reference
from builder.transport.registry.auth import Authorizer
from builder.transport.registry.faults import RegistryError, refusal
from builder.transport.registry.http import Http, Response
from builder.transport.registry.origin import parse_origin

ACCEPTED = (media.INDEX, media.MANIFEST, media.DOCKER_INDEX, media.DOCKER_MANIFEST)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_PAGE = 1000
_MAX_NAMES = 100_000
_NEXT = re.compile(r'\s*<([^<>]*)>\s*;[^,]*\brel="?next"?', re.IGNORECASE)


class Served(NamedTuple):
    """A manifest or an index as a registry gave it; its digest was checked."""

    blob: Descriptor
    data: bytes


class Client:
    """Speaks about one repository. `base` is the registry's URL, without a path."""

    def __init__(self, http: Http, authorizer: Authorizer, base: str, name: Reference) -> None:
        self.http, self.authorizer, self.base, self.name = http, authorizer, base, name
        self.pull_scope = (f"repository:{name.repository}:pull",)
        self.push_scope = (f"repository:{name.repository}:pull,push",)

    def url(self, path: str) -> str:
        return f"{self.base}/v2/{self.name.repository}/{path}"

    # -- manifests ------------------------------------------------------------------------------

    def head_manifest(self, which: str, scopes: tuple[str, ...]) -> Descriptor | None:
        """What the registry says `which` (tag or digest) is, unchecked; None: not there, or a
        registry that does not say."""
        response = self._send(
            "HEAD", self.url(f"manifests/{which}"), scopes, {"Accept": ", ".join(ACCEPTED)}
        )
        if response.status == 404:
            return None
        if response.status != 200:
            raise refusal(f"{self.name.name}:{which}", response, self.authorizer)
        said, size = response.header("Docker-Content-Digest"), response.length
        if said is None or size is None:
            return None
        digest = self._digest(said)
        return Descriptor(_media_type(response), digest, size)

    def get_manifest(self, which: str) -> Served:
        """A manifest or an index, checked; asked for once more if its bytes were wrong."""
        try:
            return self._get_manifest(which)
        except _Wrong:
            return self._get_manifest(which)

    def _get_manifest(self, which: str) -> Served:
        from builder.transport.documents import MAX_MANIFEST

        joint = "@" if which.startswith("sha256:") else ":"
        what = f"{self.name.name}{joint}{which}"
        url, accept = self.url(f"manifests/{which}"), {"Accept": ", ".join(ACCEPTED)}
        response = self._send("GET", url, self.pull_scope, accept, limit=MAX_MANIFEST)
        if response.status == 404:
            raise self._unknown(what, which, response)
        if response.status != 200:
            raise refusal(what, response, self.authorizer)
        kind = _media_type(response)
        if kind.startswith(_SCHEMA_1):
            raise TransportError(
                f"{what}: the registry has a Docker schema 1 manifest only",
                "push the image again with a current tool",
            )
        if kind not in ACCEPTED:
            raise TransportError(
                f"{what}: the answer's media type is {kind[:100]!r}, expected an image manifest"
            )
        digest = digest_of(response.body)
        if which.startswith("sha256:") and which != digest:
            raise _Wrong(f"{what}: its bytes have the digest {digest}", _TAMPERED)
        said = response.header("Docker-Content-Digest")
        if said is not None and self._digest(said) != digest:
            raise _Wrong(
                f"{what}: the registry says {self._digest(said)}, its bytes have {digest}",
                _TAMPERED,
            )
        return Served(Descriptor(kind, digest, len(response.body)), response.body)

    def put_manifest(self, which: str, data: bytes, media_type: str) -> None:
        """Idempotent: tried again until the registry has it."""
        response = self.http.send(
            "PUT",
            self.url(f"manifests/{which}"),
            headers={"Content-Type": media_type},
            body=data,
            authorizer=self.authorizer,
            scopes=self.push_scope,
        )
        what = f"push of {self.name.name}:{which}"
        if response.status not in (200, 201, 202, 204):
            raise refusal(what, response, self.authorizer)
        said = response.header("Docker-Content-Digest")
        if said is not None and self._digest(said) != digest_of(data):
            raise TransportError(
                f"{what}: the registry stored {self._digest(said)}, sent was {digest_of(data)}",
                _TAMPERED,
            )

    # -- names ----------------------------------------------------------------------------------

    def tags(self, limit: int = _MAX_NAMES) -> list[str]:
        url, key, what = self.url(f"tags/list?n={_PAGE}"), "tags", self.name.name
        return list(self._names(url, key, what, self.pull_scope, limit))

    def catalog(self, limit: int = _MAX_NAMES) -> list[str]:
        """The repositories of the whole registry; many registries refuse to say."""
        url = f"{self.base}/v2/_catalog?n={_PAGE}"
        what = f"catalogue of {self.name.registry}"
        return list(self._names(url, "repositories", what, ("registry:catalog:*",), limit))

    def _names(
        self, url: str, key: str, what: str, scopes: tuple[str, ...], limit: int
    ) -> Iterator[str]:
        """All pages of a list; `Link: <...>; rel="next"` leads on, within this registry only."""
        count, seen = 0, {url}
        while True:
            response = self._send("GET", url, scopes, limit=8 << 20)
            if response.status != 200:
                raise refusal(what, response, self.authorizer)
            names = response.json().get(key) or []
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise TransportError(f"{what}: {key!r} is not a list of names")
            for name in names:
                if count >= limit:
                    return
                count += 1
                yield "".join(c for c in name[:255] if c.isprintable())
            onward = _NEXT.match(response.header("Link") or "")
            if not onward or not names:
                return
            url = self.http.join(url, onward[1])
            if parse_origin(url) != parse_origin(self.base) or url in seen:
                raise TransportError(f"{what}: its next page is elsewhere, which is not followed")
            seen.add(url)

    # -- blobs: is it there? (pulled in download.py, pushed in upload.py) -------------------------

    def has_blob(self, blob: Descriptor, scopes: tuple[str, ...]) -> bool:
        response = self._send("HEAD", self.url(f"blobs/{blob.digest}"), scopes)
        if response.status == 404:
            return False
        if response.status != 200:
            raise refusal(f"{self.name.name}@{blob.digest}", response, self.authorizer)
        said = response.header("Docker-Content-Digest")
        if said is not None and self._digest(said) != blob.digest:
            raise TransportError(
                f"{self.name.name}: asked for blob {blob.digest} the registry answers for"
                f" {self._digest(said)}",
                _TAMPERED,
            )
        # a blob of another size is a broken one: it is sent again
        return response.length in (None, blob.size)

    # -- parts ----------------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: dict[str, str] | None = None,
        limit: int = 1 << 20,
    ) -> Response:
        return self.http.send(
            method, url, headers=headers, authorizer=self.authorizer, scopes=scopes, limit=limit
        )

    def _digest(self, text: str) -> Digest:
        try:
            return parse_digest(text)
        except BuilderError as error:
            raise TransportError(
                f"{self.name.name}: the registry's Docker-Content-Digest: {error.message}"
            ) from error

    def _unknown(self, what: str, which: str, response: Response) -> TransportError:
        """404 for a manifest: name what is near, if the registry tells."""
        error = refusal(what, response, self.authorizer)
        if "NAME_UNKNOWN" in error.codes:
            return error
        message, hint = f"{what}: the registry has no such image", None
        if not which.startswith("sha256:"):
            import difflib

            try:
                tags = self.tags(limit=_PAGE)
                near = difflib.get_close_matches(which, tags, n=5, cutoff=0.4) or sorted(tags)[-5:]
                hint = f"its tags are like: {', '.join(near)}" if near else "it has no tags"
            except RegistryError as unlisted:
                if "NAME_UNKNOWN" in unlisted.codes:
                    return unlisted
            except TransportError:
                pass  # the hint is a courtesy
        return RegistryError(message, hint, error.status, error.codes)


_TAMPERED = "the registry or something between has changed it; if it persists, tell its operator"


class _Wrong(TransportError):
    """Bytes that are not what was asked for: worth one more try."""


def _media_type(response: Response) -> str:
    return (response.header("Content-Type") or "").partition(";")[0].strip().lower()
