"""The last build of an image, kept so that a later plan can say what changed since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from builder.oci.digest import is_digest, is_key
from builder.oci.image import encode
from builder.store.names import ImageName
from builder.store.records import parse_object
from builder.store.store import Store


class LastStep(NamedTuple):
    name: str
    verb: str
    key: str
    diff_id: str  # "" for an empty layer
    why: str  # why it was built when it was last built
    built: int  # when, seconds since 1970


class LastBuild(NamedTuple):
    base: str  # `from:` as written
    base_chain: str
    variables: Mapping[str, Any]
    steps: tuple[LastStep, ...]
    manifest: str  # its digest
    created: int
    tags: tuple[str, ...] = ()

    def match(self, index: int, name: str, verb: str) -> LastStep | None:
        """The step that this one was: the one of its name, else the one in its place."""
        for step in self.steps:
            if step.name == name:
                return step
        if index < len(self.steps) and self.steps[index].verb == verb:
            return self.steps[index]
        return None


_STEP = (str, str, str, str, str, int)
_BUILD = (str, str, dict, tuple, str, int, tuple)


def load_last(store: Store, image: ImageName) -> LastBuild | None:
    document = parse_object(store.load("builds", image.key)) or {}
    try:
        steps = tuple(LastStep(**step) for step in document.pop("steps"))
        tags = tuple(document.pop("tags"))
        last = LastBuild(steps=steps, tags=tags, **document)
    except (TypeError, KeyError, AttributeError):
        return None  # of another version: as if never built
    for value, types in ((last, _BUILD), *((step, _STEP) for step in steps)):
        if not all(isinstance(part, type_) for part, type_ in zip(value, types, strict=True)):
            return None
    named = all(is_key(step.key) and is_digest(step.diff_id or last.manifest) for step in steps)
    return last if named and is_digest(last.manifest) else None


def save_last(store: Store, image: ImageName, last: LastBuild) -> None:
    document = {**last._asdict(), "steps": [step._asdict() for step in last.steps]}
    store.remember("builds", image.key, encode(document))
