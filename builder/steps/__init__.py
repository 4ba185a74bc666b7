"""The verbs of a spec, each in a module of its own: its value, its fields and what it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from builder.plan.step import Step

NAMES = (
    *("copy", "file", "template", "directory", "symlink", "remove"),
    *("account", "unpack", "layer", "download", "git", "run"),
    *("apt", "apk", "dnf", "pip", "npm", "set"),
)
"""In the order in which schema and errors tell them. The verb `copy` is the class `Copy` of the
module `copy`."""


class _Verbs(Mapping[str, type[Step]]):
    """Each verb is imported when it is asked for."""

    def __getitem__(self, name: str) -> type[Step]:
        if name not in NAMES:
            raise KeyError(name)
        module = __import__(f"{__name__}.{name}", fromlist=[name])
        return cast(type[Step], getattr(module, name.capitalize()))

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

    def __contains__(self, name: object) -> bool:
        return name in NAMES


VERBS = _Verbs()
