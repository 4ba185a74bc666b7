"""Digests and the four identities that are built on them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NewType, Protocol, TypeGuard

from builder.errors import BuilderError

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits: the identity of a blob's bytes as stored or sent."""
DiffID = NewType("DiffID", str)
"""Digest of a layer's uncompressed tar: the identity of a layer."""
ChainID = NewType("ChainID", str)
"""Digest of a stack of layers (image-spec config.md, Layer ChainID). "" is the empty stack."""
CacheKey = NewType("CacheKey", str)
"""64 hex digits: the identity of what a step does to what."""

_KEY = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def parse_digest(text: object) -> Digest:
    """Check a digest from outside. Only sha256: other algorithms cannot be verified here."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise BuilderError(f"{str(text)[:100]!r} is not a digest, expected sha256:<64 hex digits>")
    return Digest(text)


def is_digest(text: object) -> bool:
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def is_key(text: object) -> TypeGuard[CacheKey]:
    return isinstance(text, str) and _KEY.fullmatch(text) is not None


class Hasher(Protocol):
    """A running SHA-256, or another that `hasher_of` gives."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...


def hasher(data: bytes | bytearray = b"") -> Hasher:
    return hashlib.sha256(data)


def hasher_of(algorithm: str) -> Hasher:
    """`sha256` or `sha512`."""
    return {"sha256": hashlib.sha256, "sha512": hashlib.sha512}[algorithm]()


def keyed_hex(key: bytes, data: bytes) -> str:
    """HMAC-SHA-256."""
    import hmac

    return hmac.new(key, data, hashlib.sha256).hexdigest()


def sum_of(algorithm: str, text: str) -> str:
    """A text's checksum in hex, of md5, sha1 and the like, for names: it proves nothing."""
    return hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()


def digest_of(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def hex_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def chain_id(diff_ids: Iterable[DiffID]) -> ChainID:
    """ChainID of layers given bottom first."""
    chain = ChainID("")
    for diff_id in diff_ids:
        chain = extend_chain(chain, diff_id)
    return chain


def extend_chain(chain: ChainID, diff_id: DiffID) -> ChainID:
    if not chain:
        return ChainID(str(diff_id))
    return ChainID("sha256:" + hashlib.sha256(f"{chain} {diff_id}".encode()).hexdigest())
