"""Archives: which sources of an ADD are unpacked, by what they hold as Docker tells them."""

from __future__ import annotations

import os

from builder.spec import syntax

_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


def among(context: str | None, path: str) -> list[tuple[str, bool]]:
    """The sources that a path means, each with whether it is an archive: itself, or, of a glob that
    finds archives and others, what it finds. Where nothing is there, its name tells."""
    if "{{" in path or "{%" in path:
        return [(path, path.endswith(_NAMES))]
    if not syntax.is_glob(path):
        return [(path, _is_archive(context, path))]
    found = _matches(context, path)
    kinds = {_is_archive(context, each) for each in found}
    if len(kinds) > 1:
        return [(each, _is_archive(context, each)) for each in found]
    return [(path, kinds == {True} if kinds else path.endswith(_NAMES))]


def is_folder(context: str | None, path: str) -> bool:
    return context is not None and os.path.isdir(os.path.join(context, path))


def _matches(context: str | None, path: str) -> list[str]:
    if context is None:
        return []
    from builder.errors import BuilderError
    from builder.plan.context import Context

    try:
        return [each.path for each in Context(context, None).find(path)]
    except BuilderError:
        return []  # told when the step takes it


def _is_archive(context: str | None, path: str) -> bool:
    """Whether a file of the context is a tar, packed or not; a folder or nothing is none."""
    if context is None:
        return path.endswith(_NAMES)
    import tarfile

    root = os.path.realpath(context)
    whole = os.path.realpath(os.path.join(root, path))
    if os.path.commonpath((root, whole)) != root or not os.path.isfile(whole):
        return not os.path.lexists(whole) and path.endswith(_NAMES)
    try:
        with open(whole, "rb") as file:
            head = file.read(512)
            if len(head) >= 262 and head[257:262] == b"ustar":
                return True
            if head.startswith(_PACKED):
                return _holds_tar(whole, head)
            tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")  # an old one, by its checksum
    except (OSError, tarfile.TarError):
        return False
    return True


def _holds_tar(path: str, head: bytes) -> bool:
    import tarfile

    if head.startswith(_PACKED[3]):
        return path.endswith(_NAMES)
    try:
        with tarfile.open(path) as tar:
            return tar.next() is not None
    except (OSError, tarfile.TarError, EOFError, ValueError):
        return False
