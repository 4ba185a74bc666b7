"""Differences: all in which a step's key document differs from the last build's, with the texts
before and after, where they are small and here: `why --all`. The first alone is plan.why's."""

from __future__ import annotations

import contextlib
import difflib
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import BuilderError
from builder.layer.entry import FILE, HostFile
from builder.oci.digest import CacheKey, DiffID
from builder.oci.image import Layer
from builder.plan.keys import parse
from builder.plan.last import LastStep
from builder.plan.planned import BuildFiles, Planned
from builder.plan.why import FIELDS, entry_difference, field_difference, first_difference
from builder.spec.model import ImageSpec, without_values
from builder.store.records import load_document, load_layer

if TYPE_CHECKING:
    from builder.rootfs.layers import Layers

_TEXT = 64_000  # bytes of a file that is shown as a text
_LINES = 200  # of one diff
_MOST = 50  # files that are told apart


class Difference(NamedTuple):
    what: str  # a line
    diff: tuple[str, ...] = ()  # lines of a unified diff


Hide = Callable[[str], str]
"""A text without what env() gave."""


def differences(
    layers: Layers, spec: ImageSpec, before: LastStep | None, step: Planned
) -> list[Difference]:
    """Of a step that is to be built and what it was; none where one of the two is not known."""
    if before is None or step.document is None:
        return []
    old = load_document(layers.store, CacheKey(before.key))
    if old is None:
        return []
    try:
        was, now = parse(old), parse(step.document)
        same = all(was.get(each) == now.get(each) for each in ("version", "kind", "platform"))
        if not same:
            return [Difference(first_difference(was, now))]
        hide = partial(_hidden, spec, step)
        if now["kind"] == "files":
            return list(_files(layers, before, step, was["entries"], now["entries"], hide))
        return list(_command(was, now, hide))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return []  # of another version


def _hidden(spec: ImageSpec, step: Planned, text: str) -> str:
    text = without_values(text, step.step)
    for name, value in spec.environment.items():
        if value and len(value) > 3:  # in the texts of templates, too
            text = text.replace(value, f"<env {name}>")
    return text


def _command(old: Mapping[str, Any], new: Mapping[str, Any], hide: Hide) -> Iterator[Difference]:
    for field in FIELDS:
        if old[field] == new[field]:
            continue
        if field == "env":
            for name in sorted({*old[field], *new[field]}):
                sides = [{k: v for k, v in side[field].items() if k == name} for side in (old, new)]
                if sides[0] != sides[1]:
                    yield Difference(field_difference(field, *sides))
            continue
        diff: tuple[str, ...] = ()
        if field == "command":
            texts = ["\n".join(each[field]) for each in (old, new)]
            if any("\n" in text for text in texts):
                diff = _diff("command", hide, *texts)
        yield Difference(field_difference(field, old[field], new[field]), diff)
    rest = {**new, **{field: old[field] for field in FIELDS}}
    if (said := first_difference(old, rest)) != "changed":  # secrets, mounts, the executor
        yield Difference(said)


def _files(
    layers: Layers,
    before: LastStep,
    step: Planned,
    old: Mapping[bytes, bytes],
    new: Mapping[bytes, bytes],
    hide: Hide,
) -> Iterator[Difference]:
    changed = sorted({path for path, _ in old.items() ^ new.items()})
    told = changed[:_MOST]
    earlier, later = _earlier(layers, before, told, old), _later(step, told)
    for path in told:
        what = entry_difference(path, old.get(path), new.get(path))
        diff: tuple[str, ...] = ()
        was, now = earlier.get(path), later.get(path)
        if path in old and path in new and was is not None and now is not None and was != now:
            diff = _diff("/" + path.decode("utf-8", "backslashreplace"), hide, was, now)
        yield Difference(what, diff)
    if len(changed) > len(told):
        yield Difference(f"and {len(changed) - len(told)} more paths")


def _diff(name: str, hide: Hide, old: str, new: str) -> tuple[str, ...]:
    was, now = (hide(text).splitlines() for text in (old, new))
    names = f"{name} (last build)", f"{name} (now)"
    lines = list(difflib.unified_diff(was, now, *names, n=2, lineterm=""))
    more = [f"... {len(lines) - _LINES} more lines"] if len(lines) > _LINES else []
    return (*lines[:_LINES], *more)


def _text(data: bytes) -> str | None:
    if len(data) > _TEXT or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _later(step: Planned, paths: list[bytes]) -> dict[bytes, str | None]:
    """The texts of files as the step has them now."""
    if not isinstance(step.decision, BuildFiles):
        return {}
    wanted, found = set(paths), {}
    for entry, content in step.decision.changes.sorted():
        if entry.path not in wanted or entry.type != FILE or entry.size > _TEXT:
            continue
        if isinstance(content, bytes):
            found[entry.path] = _text(content)
        elif isinstance(content, HostFile):
            with contextlib.suppress(OSError), open(content.open(), "rb") as file:
                found[entry.path] = _text(file.read(_TEXT + 1))
    return found


def _earlier(
    layers: Layers, before: LastStep, paths: list[bytes], old: Mapping[bytes, bytes]
) -> dict[bytes, str | None]:
    """The texts of files as they stand in the layer that the step had."""
    store = layers.store
    info = load_layer(store, DiffID(before.diff_id)) if before.diff_id else None
    blob = next((each for each in info.blobs.values() if store.has(each)), None) if info else None
    if info is None or blob is None:
        return {}
    layer, found = Layer(info.diff_id, blob), {}
    folder = store.temporary()
    try:
        table = layers.table(layer)
        there = {path: entry for path in paths if path in old and (entry := table.get(path))}
        wanted = [
            path for path, entry in there.items() if entry.type == FILE and entry.size <= _TEXT
        ]
        for path, place in layers.extract(layer, wanted, folder).items() if wanted else ():
            with open(place, "rb") as file:
                found[path] = _text(file.read())
    except BuilderError:
        return {}  # it is damaged, or has gone meanwhile
    finally:
        shutil.rmtree(folder)
    return found
