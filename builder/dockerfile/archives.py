"""Archives: which sources of an ADD are unpacked, by what they hold as Docker tells them."""

from __future__ import annotations

import os

from builder.spec import syntax

_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


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
    root = os.path.realpath(context)
    whole = os.path.realpath(os.path.join(root, path))
    if os.path.commonpath((root, whole)) != root or not os.path.isfile(whole):
        return not os.path.lexists(whole) and path.endswith(_NAMES)
    import tarfile

    from builder.errors import LayerError
    from builder.layer.decompress import open_layer

    try:
        with open(whole, "rb") as file:
            # the first header alone: what the next says may be made to cost much
            block = open_layer(file).read(512)
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (OSError, LayerError, tarfile.TarError, ValueError):
        return False
    return True
