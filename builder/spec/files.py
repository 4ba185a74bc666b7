"""Files of specs: which there are, their bytes, and errors at places in them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from builder.errors import BuilderError, SpecError, UsageError
from builder.spec.model import Place
from builder.spec.named import open_named

SUFFIXES = (".yaml", ".yml")
_DOCKERS = ("dockerfile", "containerfile")


MAX_BYTES = 1 << 20  # of a spec or a vars file; source.decode names it in its error


def is_spec(image: str, folder: str) -> bool:
    """Whether IMAGE on a command line means a spec, and not an image by its reference."""
    if "/" in image or image.endswith(SUFFIXES) or is_dockerfile(image):
        return image.endswith(SUFFIXES) or os.path.isfile(image)
    return spec_at(folder, image) is not None


def is_dockerfile(image: str) -> bool:
    """By its name: Dockerfile, Dockerfile.dev, dev.Dockerfile, and Containerfile."""
    name = os.path.basename(image).lower()
    first, _, rest = name.partition(".")
    last = name.rpartition(".")[2]
    if name.endswith((*SUFFIXES, ".dockerignore", ".containerignore")):
        return False
    return first in _DOCKERS or (bool(rest) and last in _DOCKERS)


def find_spec(image: str, folder: str) -> str:
    """The path of IMAGE on a command line: a path to a file, or a name in `folder`."""
    no_dockers(image)
    if "/" in image or image.endswith(SUFFIXES):
        if os.path.isfile(image):
            return image
        raise UsageError(f"no spec file {image!r}")
    if found := spec_at(folder, image):
        return found
    raise no_spec(image, folder, [stem_of(path) for path in spec_files(folder)])


def no_spec(image: str, folder: str, names: Sequence[str]) -> UsageError:
    from builder.spec.source import did_you_mean

    hint = f"there are: {', '.join(names[:20])}" if names else f"{folder!r} holds no spec"
    return UsageError(f"no spec {image!r} in {folder!r}{did_you_mean(image, names)}", hint)


def no_dockers(image: str) -> None:
    """`build .`, as one is used to from Docker, without a Dockerfile. Raises UsageError."""
    name = os.path.basename(image).lower()
    if (
        os.path.isdir(image)
        and not name.endswith(SUFFIXES)
        and ("/" in image or name in (".", ".."))
    ):
        raise UsageError(
            f"{image!r} is a folder without a Dockerfile, expected a spec's name or file",
            "builder build builds every spec; --context DIR names the folder of what they copy",
        )


def spec_files(folder: str) -> list[str]:
    """All specs of a folder, by name."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        if os.path.isfile(os.path.join(os.path.dirname(folder), "Dockerfile")):
            text = f"there is no folder {folder!r}"
            raise UsageError(text, "builder build . builds the Dockerfile") from None
        raise UsageError(
            f"cannot read the folder {folder!r}: {error.strerror}",
            "call it where the folder `specs` is, or name another with --specs; "
            f"{init_command(folder)} writes a first spec",
        ) from None
    return [os.path.join(folder, name) for name in names if name.endswith(SUFFIXES)]


def init_command(folder: str) -> str:
    import shlex

    return "builder init" + ("" if folder == "specs" else f" --specs {shlex.quote(folder)}")


def stem_of(path: str) -> str:
    return os.path.basename(path).rpartition(".")[0]


def spec_at(folder: str, name: str) -> str | None:
    found = [path for suffix in SUFFIXES if os.path.lexists(path := f"{folder}/{name}{suffix}")]
    if len(found) > 1:
        raise UsageError(f"two specs for {name!r}: {' and '.join(found)}", "rename one of them")
    return os.path.normpath(found[0]) if found else None


def read_bytes(path: str, what: str) -> bytes:
    try:
        with open_named(path) as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read the {what} {path!r}: {error.strerror}") from None


def error_at(place: Place, message: str, hint: str | None = None) -> SpecError:
    """An error in a spec that was loaded, perhaps from the cache: its line is read again."""
    return SpecError(message, hint, snippet_at(place)).at(place)


def snippet_at(place: Place) -> str | None:
    """The line of a place and a caret, if the file can still be read."""
    from builder.spec.source import Source

    try:
        text = read_bytes(place.file, "file").decode("utf-8", "replace").removeprefix("\ufeff")
    except UsageError:
        return None  # the message stands without the line
    return Source(place.file, text).snippet(place.line, place.column)


def field_place(place: Place, field: str) -> Place:
    """Where a field of a step stands, of which `place` is where its verb's value does: the spec was
    loaded, perhaps from the cache, and is read again. Where that fails, the place itself."""
    from builder.spec.node import parse_yaml
    from builder.spec.source import Fault, Problems, TooManyErrors, decode

    try:
        source = decode(place.file, read_bytes(place.file, "file"))
        waiting = [parse_yaml(source, Problems(source))]
    except (BuilderError, Fault, TooManyErrors):
        return place
    seen: set[int] = set()  # by identity: aliases lead to the same nodes
    while waiting:
        node = waiting.pop()
        at = node.get(field)
        if at and any((each.line, each.column) == place[1:] for _, each in node.pairs):
            return Place(place.file, at.line, at.column)
        inner = [*node.items, *(value for _, value in node.pairs)]
        waiting += [each for each in inner if id(each) not in seen]
        seen.update(map(id, inner))
    return place
