"""Compiled specs: what reading a spec gave, kept by the content of all that went into it.

A speed-up that may be deleted. The name of an entry is made of the spec's bytes and name, the
variables, the bytes of vars files, the platform and the version of the language. The entry lists
the files that were read beside it with their digests, and what env() was asked for in vain, and
counts only while that is so; what env() gave is never kept, so a spec with such values is read each
time. Whatever else is found is a miss.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from builder.oci.digest import hex_of
from builder.oci.image import Platform, encode, host_platform
from builder.spec import model
from builder.version import __version__

SPEC_VERSION = 12
"""Raised when the same text would be read into another ImageSpec."""

_TYPES: dict[str, Any] = {
    each.__name__: each
    for each in (
        *(model.BaseRef, model.Healthcheck, model.ConfigChange, model.ImageSpec, model.Place),
        *(Platform, model.Skipped, model.Folder),
    )
}
_HEX = 64
_OTHERS = ("builder.spec.mounts", "builder.spec.tests")
"""Modules of further types, imported for a spec that has some."""


class Cache(Protocol):
    """Where compiled specs are kept; names are 64 hex digits."""

    def load(self, name: str) -> bytes | None: ...

    def save(self, name: str, data: bytes) -> None: ...


def entry_name(
    file: str,
    text: bytes,
    sets: Mapping[str, str],
    vars_files: Sequence[tuple[str, bytes]],
    shared: Mapping[str, Any],
    platform: Platform,
    base: Mapping[str, Any] | None = None,
    row: int | None = None,
    stage: str = "",
) -> str:
    """What the compiled form of a spec is kept under."""
    parts = [
        *(SPEC_VERSION, __version__, file, hex_of(text), dict(sets)),
        [(name, hex_of(data)) for name, data in vars_files],
        *(dict(shared), platform, host_platform(), base, row, stage),
    ]
    return hex_of(encode(parts))


def encode_specs(specs: tuple[model.ImageSpec, ...], parts: Mapping[str, str]) -> bytes:
    """The specs of a file, which was read with these other files, by path with their digests, as
    JSON behind the digest of it."""
    packed = {"specs": [_pack(spec) for spec in specs], "parts": dict(parts)}
    document = json.dumps(packed, separators=(",", ":")).encode()
    return hex_of(document).encode() + document


def decode_specs(
    data: bytes | None,
    environ: Mapping[str, str],
    verbs: model.Verbs,
    digest: Callable[[str], str | None],
) -> tuple[model.ImageSpec, ...] | None:
    """The specs, or None for what is none or was made with other answers of env() or of other
    files; `digest` tells that of a file. Only the verbs of
    its steps are asked for."""
    if data is None or hex_of(data[_HEX:]).encode() != data[:_HEX]:
        return None
    try:
        document = json.loads(data[_HEX:])
        specs = tuple(_unpack(each, verbs) for each in document["specs"])
        parts = document["parts"].items()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not all(isinstance(spec, model.ImageSpec) for spec in specs):
        return None
    environments = [each.environment for spec in specs for each in (spec, *spec.stages)]
    if any(environ.get(name) != value for each in environments for name, value in each.items()):
        return None
    if any(digest(path) != wanted for path, wanted in parts):
        return None
    return specs


def _pack(value: Any) -> Any:
    """Tuples become {"t": [...]}, our own types {"Name": [...]}, mappings {"m": {...}}, steps
    {"s": [verb, ...]} and those in their place {"w": [verb, ...]}."""
    if isinstance(value, model.Step):
        if value.stands_in:
            return {"w": [value.verb, *map(_pack, (value.place, value.name, value.origins))]}
        return {"s": [value.verb, *map(_pack, (value.place, value.name, *value.values()))]}
    if isinstance(value, tuple):
        kind = type(value).__name__
        known = kind in _TYPES or type(value).__module__ in _OTHERS
        return {kind if known else "t": [_pack(each) for each in value]}
    if isinstance(value, list):
        return [_pack(each) for each in value]
    if isinstance(value, Mapping):
        return {"m": {key: _pack(each) for key, each in value.items()}}
    return value


def _unpack(value: Any, verbs: model.Verbs) -> Any:
    if isinstance(value, list):
        return [_unpack(each, verbs) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "m":
        return {key: _unpack(each, verbs) for key, each in inner.items()}
    values = [_unpack(each, verbs) for each in inner]
    if kind == "t":
        return tuple(values)
    if kind == "w":
        verb, *rest = values
        return _checked(verbs[verb].waiting(*rest))
    if kind == "s":
        verb, *values = values
        return _checked(verbs[verb](*values))
    return _checked((_TYPES.get(kind) or _other(kind))(*values))


def _other(kind: str) -> Any:
    """A type of one of the other modules. Raises KeyError."""
    for name in _OTHERS:
        if kind in (kinds := import_module(name).KINDS):
            return kinds[kind]
    raise KeyError(kind)


def _is_of(module: str) -> Callable[[Any], bool]:
    return lambda value: type(value).__module__ == module


def _checked(made: Any) -> Any:
    """A named tuple whose values are of the types that it declares. Raises TypeError."""
    declared = next(each for each in type(made).__mro__ if "_fields" in vars(each))
    for field, wanted in declared.__annotations__.items():
        if not _fits(getattr(made, field), _text_of(wanted)):
            raise TypeError(f"{declared.__name__}.{field}")
    return made


def _text_of(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else str(annotation.__forward_arg__)


def _fits(value: Any, wanted: str) -> bool:
    """Whether a value is of a type, as model.py writes it."""
    check = _CHECKS.get(wanted)
    if check is None:
        check = _CHECKS[wanted] = _check_of(wanted)
    return check(value)


def _check_of(wanted: str) -> Callable[[Any], bool]:
    if " | " in wanted and "[" not in wanted.partition(" | ")[0]:
        first, _, rest = wanted.partition(" | ")
        return lambda value: _fits(value, first) or _fits(value, rest)
    if wanted.endswith(" | None"):
        return lambda value: value is None or _fits(value, wanted[: -len(" | None")])
    if wanted.startswith("tuple["):
        each = wanted[len("tuple[") : -len(", ...]")]
        return lambda value: type(value) is tuple and all(_fits(part, each) for part in value)
    if wanted.startswith("Mapping[str, "):
        each = wanted[len("Mapping[str, ") : -1]
        return lambda value: type(value) is dict and all(_fits(v, each) for v in value.values())
    type_ = _TYPES[wanted]
    return lambda value: isinstance(value, type_)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "Any": lambda value: True,
    "None": lambda value: value is None,
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: type(value) is int,
    "Step": lambda value: isinstance(value, model.Step),
    "Mount": _is_of("builder.spec.mounts"),
    **dict.fromkeys(("Test", "Expected", "Http"), _is_of("builder.spec.tests")),
}
