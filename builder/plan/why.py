"""Why a step is built: two key documents compared, down to the first leaf that differs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType
from typing import Any, NamedTuple

from builder.oci.digest import CacheKey
from builder.plan.keys import MANY, parse
from builder.plan.last import LastBuild, LastStep
from builder.store.records import load_document
from builder.store.store import Store

_SHOWN = 58  # characters of a value
_PARENT = "what it stands on changed"
_MOUNTS = "its mounts changed"
FIELDS = ("command", "user", "env", "working_dir", "folder", "network", "times", "parent")
"""Of a command's document; the user before the environment: HOME follows the user."""
_FIELDS = ("type", "mode", "owner", "group", "mtime", "xattrs", "content")
_TYPES = {
    "0": "file", "1": "hard link", "2": "symlink", "3": "device", "4": "device",
    "5": "directory", "6": "FIFO",
}  # fmt: skip


class Below(NamedTuple):
    """What a step stands on."""

    base_chain: str
    steps: tuple[tuple[str, str], ...]  # names and diff_ids ("" where the layer is empty)


def why_step(
    store: Store,
    last: LastBuild | None,
    index: int,
    names: Sequence[str],
    verb: str,
    document: bytes | None,
    key: CacheKey | None,
    below: Below | None,
    held: Mapping[CacheKey, bytes | None] = MappingProxyType({}),
) -> str:
    """One line that says what makes this key another than the last build's. `held` are the
    documents of what a command's binds show. `names` are those of
    all steps of the spec, `verb` is "run" or "files", `document` what the key is the hash of where
    it is held, `below` what a command stands on."""
    if last is None:
        return "first build"
    before = _before(last, index, names, verb)
    if before is None:
        return "new step"
    if before.key == key:
        return "its layer is no longer in the cache"
    if document is None:
        return f"changed; it has more than {MANY} paths, which are not told apart"
    old = load_document(store, CacheKey(before.key))
    if old is None:
        return "changed; what it was is no longer in the cache"
    try:
        before_it, now = parse(old), parse(document)
        difference = first_difference(before_it, now)
        if difference == _MOUNTS:
            difference = _mounts(store, before_it.get("mounts", ()), now.get("mounts", ()), held)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return "changed; what it was is not understood"  # never worth a failed build
    if difference == _PARENT and below is not None:
        return _parent(last, last.steps.index(before), below)
    return difference


def _before(last: LastBuild, index: int, names: Sequence[str], verb: str) -> LastStep | None:
    """What the step was: the one of its name, else the one in its place if that one is not
    elsewhere now."""
    for step in last.steps:
        if step.name == names[index]:
            return step
    if index < len(last.steps):
        step = last.steps[index]
        if step.verb == verb and step.name not in names:
            return step
    return None


def _parent(last: LastBuild, index: int, below: Below) -> str:
    """What changed below a command that was step `index`."""
    if below.base_chain != last.base_chain:
        return why_base(last, last.base, below.base_chain)
    old = {step.name: step.diff_id for step in last.steps[:index]}
    new = dict(below.steps)
    for name, diff_id in below.steps:
        if name not in old:
            return f"step {name!r} below it is new"
        if diff_id != old[name]:
            return f"step {name!r} below it changed"
    gone = [name for name in old if name not in new]
    return f"step {gone[0]!r} below it is gone" if gone else "the steps below it changed places"


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if old.get("version") != new["version"]:
        return "made by another version of the builder"
    if old["kind"] != new["kind"]:
        return f"was a {old['kind']} step"
    if old["platform"] != new["platform"]:
        return f"platform: {old['platform']} -> {new['platform']}"
    if new["kind"] == "files":
        return _files(old, new)
    for field in FIELDS:
        if old[field] != new[field]:
            return field_difference(field, old[field], new[field])
    before, after = old.get("secrets", {}), new.get("secrets", {})
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            return f"secret {name!r}: another value"
    if old.get("mounts") != new.get("mounts"):
        return _MOUNTS
    if old.get("executor") != new.get("executor"):
        return f"executor: {old.get('executor', 'sandbox')} -> {new.get('executor', 'sandbox')}"
    return "changed"


def _mounts(
    store: Store,
    old: Sequence[Sequence[str]],
    new: Sequence[Sequence[str]],
    held: Mapping[CacheKey, bytes | None],
) -> str:
    """Of `plan.mounts.documents`: the first that differs, of a bind the first file."""
    from builder.plan.mounts import NAME

    # what is at no place goes by all that is said of it: several secrets may be variables
    before = {tuple(each[:2] if each[1] else each): each[2:] for each in old}
    after = {tuple(each[:2] if each[1] else each): each[2:] for each in new}
    for each, value in after.items():
        if each not in before:
            return f"{_mount(each)}: new"
        if before[each] == value:
            continue
        if each[0] == "bind":
            was, now = load_document(store, CacheKey(before[each][0])), held.get(CacheKey(value[0]))
            if was and now:
                said = first_difference(parse(was), parse(now)).replace(f"/{NAME}", "", 1)
                return f"{_mount(each)}: {said.removeprefix(': ')}"
        return f"{_mount(each)}: changed"
    return f"{_mount(next(each for each in before if each not in after))}: gone"


def _mount(each: Sequence[str]) -> str:
    return f"mount {each[1]}" if each[1] else f"mount {' '.join(filter(None, each))}"


def why_base(last: LastBuild, base: str, chain: str) -> str:
    if last.base != base:
        return f"from: {last.base} -> {base}"
    return f"base changed: {_short(last.base_chain)} -> {_short(chain)}"


def why_variables(last: LastBuild | None, variables: Mapping[str, Any]) -> str:
    """The first variable that differs from the last build's, or ""."""
    if last is None:
        return ""
    for name in sorted({*last.variables, *variables}):
        old, new = last.variables.get(name), variables.get(name)
        if old != new:
            return f"{name}: {_variable(old)} -> {_variable(new)}"
    return ""


def _variable(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def field_difference(field: str, old: Any, new: Any) -> str:
    if field == "parent":
        return _PARENT
    if field == "env":
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                return f"env {name}: {_change(old.get(name), new.get(name))}"
    if field == "command":
        for before, after in zip(old, new, strict=False):
            if before != after:
                return f"command: {_change(*_differing(before, after))}"
    if field == "user":
        old, new = (":".join(map(str, each[:2])) for each in (old, new))
    return f"{field}: {_change(old, new)}"


def _differing(old: str, new: str) -> tuple[str, str]:
    """Of two texts the first line that the other has not, each."""
    lines, others = old.splitlines(), new.splitlines()
    same = _alike(lines, others)
    first, second = (
        (each[same] if same < len(each) else each[-1] if each else "").strip()
        for each in (lines, others)
    )
    return first, second


def _alike(old: Sequence[str], new: Sequence[str]) -> int:
    """How many of them are the same from the start on."""
    pairs = zip(old, new, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _change(old: object, new: object) -> str:
    """`old -> new`; long texts are shown from shortly before where they part."""
    if not (isinstance(old, str) and isinstance(new, str)) or max(len(old), len(new)) <= _SHOWN:
        return f"{_value(old)} -> {_value(new)}"
    start = _alike(old, new) - _SHOWN // 3
    return f"{_value(old, start)} -> {_value(new, start)}"


def _value(value: object, start: int = 0) -> str:
    if value is None:
        return "unset"
    if not isinstance(value, str):
        text = repr(value)
        return text if len(text) <= _SHOWN + 2 else text[: _SHOWN - 3] + "...'"
    # the end is shown whole rather than text of which the other has as much
    start = max(0, min(start, len(value) - _SHOWN))
    shown = value[start : start + _SHOWN]
    before, after = "..." if start else "", "..." if start + _SHOWN < len(value) else ""
    return repr(before + shown + after)


def _files(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before: dict[bytes, bytes] = old["entries"]
    after: dict[bytes, bytes] = new["entries"]
    changed = sorted({path for path, _ in before.items() ^ after.items()})
    if not changed:
        return "changed"
    # a directory that came along says less than the file in it
    path = next((p for p in changed if (after.get(p) or before[p])[:1] != b"5"), changed[0])
    more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    return entry_difference(path, before.get(path), after.get(path)) + more


def entry_difference(path: bytes, before: bytes | None, after: bytes | None) -> str:
    """Of what stands at a path, as the documents have it; None: nothing."""
    shown = _text(path)
    if before is None:
        removed = path.rpartition(b"/")[2].startswith(b".wh.")
        return f"/{shown.replace('.wh.', '', 1)}: removed" if removed else f"/{shown}: new"
    if after is None:
        return f"/{shown}: gone"
    return f"/{shown}: {_entry(before, after)}"


def _entry(before: bytes, after: bytes) -> str:
    kind = after[:1].decode()
    for field, old, new in zip(_FIELDS, before.split(b" ", 6), after.split(b" ", 6), strict=True):
        if old == new:
            continue
        if field == "type":
            return f"{_TYPES[old.decode()]} -> {_TYPES[new.decode()]}"
        if field == "xattrs":
            return _attribute(_attributes(old), _attributes(new))
        if field == "content" and kind == "0":
            return f"content {_text(old)[:12]} -> {_text(new)[:12]}"
        if field == "content":
            field = "target" if kind in "12" else "device"
        return f"{field} {_text(old)} -> {_text(new)}"
    return "changed"


def _attribute(old: dict[str, str], new: dict[str, str]) -> str:
    name = min(name for name in {*old, *new} if old.get(name) != new.get(name))
    return f"attribute {_printable(name)}: {old.get(name, 'unset')} -> {new.get(name, 'unset')}"


def _attributes(field: bytes) -> dict[str, str]:
    """Name -> value in hex."""
    if field == b"-":
        return {}
    pairs = (each.partition("=") for each in field.decode().split(","))
    return {os.fsdecode(bytes.fromhex(name)): value for name, _, value in pairs}


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or "empty"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _text(data: bytes) -> str:
    return _printable(data.decode("utf-8", "surrogateescape"))
