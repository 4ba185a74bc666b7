"""Reference: the name of an image at a registry, as Docker reads and writes it."""

from __future__ import annotations

import re
from typing import NamedTuple

from builder.errors import UsageError, masked
from builder.oci.digest import Digest

DOCKER_HUB = "docker.io"
MAX_NAME = 255  # registry, slash and repository together (distribution-spec, Pulling manifests)

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_EXPECTED = "expected [REGISTRY/]REPOSITORY[:TAG][@DIGEST]"
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


class Reference(NamedTuple):
    """Where an image is. `tag` or `digest` or both are set; with both, the digest decides."""

    registry: str  # "docker.io", "localhost:5000"
    repository: str  # "library/nginx"
    tag: str | None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The short form that people write: `nginx:1.25` for `docker.io/library/nginx:1.25`."""
        name = self.name
        if self.registry == DOCKER_HUB:
            name = self.repository
            rest = name.removeprefix("library/")
            if rest != name and "/" not in rest:
                name = rest
        return name + str(self)[len(self.name) :]

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def parse_reference(text: str) -> Reference:
    """Read `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]` with the Docker client's defaults: registry
    docker.io, `library/` before its one-word names, tag `latest` where neither tag nor digest is
    given. The first component is a registry when it holds a dot or a colon, is `localhost`, or is
    not lower case. Only sha256 digests are taken, as nothing else is verified here.
    """
    if _IMAGE_ID.fullmatch(text):
        raise _refused(text, "64 hex digits are an image's ID, not a repository", None)
    if "://" in text:
        plain = _proposed(text, text.partition("://")[2])
        hint = "leave the scheme out" + (f": {plain}" if plain else "")
        raise _refused(text, _EXPECTED, hint)
    rest, at, digest = text.partition("@")
    if at and not _SHA256.fullmatch(digest):
        raise _refused(text, f"the digest {digest[:80]!r} is not sha256:<64 hex digits>", None)
    registry, repository, tag = _split(rest)
    if repository != repository.lower():
        shown = repository.removeprefix("library/")[:80]
        host = f"{registry}/" if any(mark in registry for mark in ".:") else ""
        name = text.partition("@")[0].removesuffix(f":{tag}")
        lower = _proposed(text, host + name.removeprefix(host).lower() + text[len(name) :])
        raise _refused(text, f"the repository {shown!r} is not lower case", lower)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _refused(
            text,
            f"the tag {tag[:80]!r} is not 1 to 128 letters, digits, _, . or -",
            "a tag begins with a letter, a digit or _",
        )
    if not _REGISTRY.fullmatch(registry):
        raise _refused(text, f"{registry[:80]!r} is not a host[:port]", None)
    if not _REPOSITORY.fullmatch(repository):
        raise _refused(text, _EXPECTED, None)
    if len(registry) + 1 + len(repository) > MAX_NAME:
        raise _refused(text, f"the name is longer than {MAX_NAME} characters", None)
    if tag is None and not at:
        tag = "latest"
    return Reference(registry, repository, tag, Digest(digest) if at else None)


def _split(name: str) -> tuple[str, str, str | None]:
    """Registry, repository and tag, defaults filled in, nothing checked."""
    first, slash, rest = name.partition("/")
    named = any(mark in first for mark in ".:") or first == "localhost" or first != first.lower()
    registry, rest = (first, rest) if slash and named else (DOCKER_HUB, name)
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    repository, colon, tag = rest.partition(":")
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository, tag if colon else None


def _proposed(text: str, other: str) -> str | None:
    """A hint to write `other`, if that is a reference."""
    if other == text or len(other) > 100:
        return None
    try:
        parse_reference(other)
    except UsageError:
        return None
    return f"write {other}"


def _refused(text: str, why: str, hint: str | None) -> UsageError:
    text = masked(text)
    shown = text if len(text) <= 100 else text[:97] + "..."
    return UsageError(f"{shown!r} is not an image reference: {why}", hint)
