"""Outputs: the text of `--output` to the destination that it names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.oci.reference import parse_reference
from builder.transport.base import Destination

if TYPE_CHECKING:
    from builder.store.store import Store

Factory = Callable[["Store", str], Destination]
"""Makes the destination for the image of the given name."""

_KINDS = {"oci": "oci-archive", "docker": "docker-archive", "local": "dir", "tar": "tar"}
"""Of buildx."""
_REF_NAME = re.compile(r"[A-Za-z0-9]+([-._:@/+][A-Za-z0-9]+)*")  # image-spec annotations.md
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def parse_output(text: str) -> Factory:
    """`oci:DIR[:tag]`, `oci-archive:FILE[:tag]`, `docker-archive:FILE[:tag]`; `dir:DIR` and
    `tar:FILE` for the files alone.

    The tag is `latest` unless given. In docker-archives it may be a whole reference, `site:1.0`;
    otherwise the image is called by its spec's name.
    """
    kind, _, rest = text.partition(":")
    path, _, tag = rest.partition(":")
    if kind not in ("oci", "oci-archive", "docker-archive", "dir", "tar") or not path:
        raise UsageError(
            f"--output {text!r} is not an output, expected oci:DIR[:tag], oci-archive:FILE[:tag],"
            " docker-archive:FILE[:tag], dir:DIR or tar:FILE",
            _meant(text),
        )
    if path == "-":
        raise UsageError(
            f"--output {text!r}: nothing is written to stdout, expected {_place(kind)}",
            f"write {kind}:{_place(kind)}",
        )
    if kind in ("dir", "tar"):
        return lambda store, name: _files(kind, store, rest)
    if kind == "docker-archive":
        if tag and not _TAG.fullmatch(tag):
            _docker_name(text, tag)
        return lambda store, name: _docker_archive(store, path, text, name, tag)
    if tag and not _REF_NAME.fullmatch(tag):
        raise UsageError(f"--output {text!r}: {tag!r} is not a tag, such as latest or 1.0")
    return lambda store, name: _oci(kind, store, path, tag or "latest")


def _meant(text: str) -> str | None:
    """The hint for an output as buildx and podman write it."""
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    kind, path = fields.get("type", ""), fields.get("dest", "")
    if kind in ("image", "registry") or "push" in fields:
        return f"--push, and --tag {fields.get('name') or 'NAME'}"
    ours = {"oci": "oci-archive", "docker": "docker-archive", "local": "dir", "tar": "tar"}.get(
        kind
    )
    if ours and fields.get("tar") == "false":
        ours = "oci"
    if ours:
        return f"write {ours}:{path or ('DIR' if ours in ('dir', 'oci') else 'FILE')}"
    if ":" in text or "=" in text or not text.strip("-"):
        return None
    return f"write docker-archive:{text}" if text.endswith(".tar") else f"write dir:{text}"


def _place(kind: str) -> str:
    return "DIR" if kind in ("oci", "dir") else "FILE"


def _oci(kind: str, store: Store, path: str, tag: str) -> Destination:
    if kind == "oci":
        from builder.transport.layout_out import LayoutDestination

        return LayoutDestination(store, path, tag)
    from builder.transport.archive_out import OciArchive

    return OciArchive(store, path, tag)


def _files(kind: str, store: Store, path: str) -> Destination:
    from builder.transport.files_out import FilesFolder, FilesTar

    return FilesFolder(store, path) if kind == "dir" else FilesTar(store, path)


def _docker_archive(store: Store, path: str, text: str, name: str, tag: str) -> Destination:
    from builder.transport.archive_out import DockerArchive

    reference = tag if ":" in tag or "/" in tag else f"{name.lower()}:{tag or 'latest'}"
    return DockerArchive(store, path, _docker_name(text, reference))


def _docker_name(text: str, reference: str) -> str:
    """As docker images shows it; what Docker would refuse is refused here."""
    parsed = parse_reference(reference)
    if parsed.digest:
        raise UsageError(f"--output {text!r}: a digest cannot be given, expected a tag")
    return parsed.familiar
