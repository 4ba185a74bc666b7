"""Compose: the files that a spec extends and includes, and how mappings are merged.

A file that another names is looked for beside that one, within the folder that holds the folder of
the spec. What these files say is as strict as what the spec says, and keeps its places.
"""

from __future__ import annotations

import os

from builder.errors import Place, SpecErrors, UsageError
from builder.oci.digest import hex_of
from builder.spec.node import LIST, MAPPING, NULL, TEXT, Node, parse_yaml
from builder.spec.render import is_template
from builder.spec.source import Fault, Problems, decode, did_you_mean, quote

MAX_DEPTH = 20  # files below each other
MAX_FILES = 100  # times that a spec and its parents name a parent
MAX_BYTES = 4 << 20  # of all files together
EDITS = ("prepend", "append", "replace")


class SpecFiles:
    """The files that one spec names. `read` has the digest of each, by the path as a user names
    it."""

    def __init__(self, file: str, problems: Problems) -> None:
        self.read: dict[str, str] = {}
        self._problems = problems
        self._root = os.path.dirname(os.path.dirname(os.path.realpath(file)))
        self._nodes: dict[str, Node] = {}  # by real path
        self._named = 0
        self._bytes = 0

    def open(self, at: Node, name: str, above: tuple[str, ...]) -> tuple[Node, str]:
        """The file that `name`, which stands at `at`, means, and its real path. `above` are the
        real paths of the files that lead there. Raises Fault at `at`."""
        assert at.source is not None
        if not name.strip() or "\0" in name or name.startswith("/"):
            raise at.fault(f"{quote(name)} is no path, expected one relative to this file")
        shown = os.path.normpath(os.path.join(os.path.dirname(at.source.file), name))
        path = os.path.realpath(shown)
        if os.path.commonpath((path, self._root)) != self._root:
            raise at.fault(f"{quote(name)} leads out of the project")
        if path in above:
            line = [
                os.path.relpath(each, self._root) for each in (*above[above.index(path) :], path)
            ]
            raise at.fault(f"files in a circle: {' -> '.join(line)}")
        if len(above) > MAX_DEPTH:
            raise at.fault(f"more than {MAX_DEPTH} files below each other")
        if path not in self._nodes:
            self._nodes[path] = self._parse(at, name, shown, path, above)
        node = self._nodes[path]
        assert node.source is not None
        here = Place(at.source.file, at.line, at.column)
        node.source.via = (here, *at.source.via)
        return node, path

    def _parse(self, at: Node, name: str, shown: str, path: str, above: tuple[str, ...]) -> Node:
        from builder.spec.files import read_bytes

        assert at.source is not None
        try:
            data = read_bytes(path, "file")
        except UsageError as error:
            why = error.message.rpartition(": ")[2]
            near = _near(name, shown, above)
            raise at.fault(f"{quote(name)} cannot be read: {why}{near}") from None
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise at.fault(f"the files of this spec are larger than {MAX_BYTES} bytes together")
        self.read[shown] = hex_of(data)
        try:
            source = decode(shown, data)
            source.via = (Place(at.source.file, at.line, at.column), *at.source.via)
            return parse_yaml(source, self._problems)
        except SpecErrors as found:  # no text at all
            first = found.errors[0]
            raise at.fault(f"{quote(name)} cannot be read: {first.message}") from None

    def extended(self, node: Node, above: tuple[str, ...]) -> Node:
        """A spec over the files that it extends. Raises Fault."""
        named = node.get("extends")
        if named is None:
            return node
        merged: Node | None = None
        for each in named.items if named.kind == LIST else [named]:
            if each.kind != TEXT:
                raise each.fault(f"found {each.show()}, expected a path relative to this file")
            if is_template(each.text):
                text = (
                    f"{quote(each.text)} is a template; files are read before variables are known"
                )
                raise each.fault(text)
            self._named += 1
            if self._named > MAX_FILES:
                raise each.fault(f"more than {MAX_FILES} files are extended")
            parent, path = self.open(each, each.text, above)
            if parent.kind != MAPPING:
                raise parent.fault(f"found {parent.show()}, expected a mapping as in a spec")
            parent = self.extended(without_free(parent), (*above, path))
            merged = parent if merged is None else _merged(merged, parent, self._problems)
        own = _like(node, [pair for pair in node.pairs if pair[0].text != "extends"])
        if merged is None:
            raise named.fault("the list is empty, expected a file")
        return _merged(merged, own, self._problems)


def _near(name: str, shown: str, above: tuple[str, ...]) -> str:
    """The file that was meant, perhaps, by one that is not there; none that leads there."""
    folder, beside = os.path.dirname(shown), os.path.dirname(name)
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return ""
    others = [each for each in names if each != os.path.basename(shown)]
    free = [each for each in others if os.path.realpath(os.path.join(folder, each)) not in above]
    return did_you_mean(name, [os.path.join(beside, each) for each in free])


def without_free(node: Node) -> Node:
    """A mapping without its keys that begin with x-."""
    if not any(key.text.startswith("x-") for key, _ in node.pairs):
        return node
    return _like(node, [pair for pair in node.pairs if not pair[0].text.startswith("x-")])


def _like(node: Node, pairs: list[tuple[Node, Node]]) -> Node:
    made = Node(MAPPING, node.line, node.column, source=node.source)
    made.pairs, made.end_line = pairs, node.end_line
    return made


def without(node: Node, *names: str) -> Node:
    """A mapping without these keys."""
    return _like(node, [pair for pair in node.pairs if pair[0].text not in names])


def _merged(parent: Node, child: Node, problems: Problems, path: tuple[str, ...] = ()) -> Node:
    """`child` over `parent`, key by key: mappings are merged, null unsets (in `vars` it says that
    a value must be given), steps and tests stand after those there are, all else is replaced."""
    own = {key.text: (key, value) for key, value in child.pairs}
    pairs = []
    for key, value in parent.pairs:
        if key.text not in own:
            pairs.append((key, value))
            continue
        mine, over = own.pop(key.text)
        where = (*path, key.text)
        if where == ("steps",):
            over = _steps(value, over, problems)
        elif where == ("tests",) and over.kind == value.kind == LIST:
            over = _after(value, over)
        elif over.kind == NULL and path[:1] != ("vars",):
            continue
        elif over.kind == MAPPING and value.kind == MAPPING:
            over = _merged(value, over, problems, where)
        pairs.append((mine, over))
    for name, (key, value) in own.items():
        if name == "steps" and not path and value.kind == MAPPING:
            value = _steps(Node(LIST, key.line, key.column, source=key.source), value, problems)
        elif value.kind == NULL and path[:1] != ("vars",):
            names = [each.text for each, _ in parent.pairs]
            near = did_you_mean(name, names)
            text = f"nothing is unset: no file that is extended has {quote(name)} here{near}"
            problems.add(key.fault(text))
            continue
        pairs.append((key, value))
    return _like(child, pairs)


def _after(below: Node, own: Node) -> Node:
    """A list with those of the files that are extended before its own."""
    made = Node(LIST, own.line, own.column, source=own.source)
    made.items = [*below.items, *own.items]
    return made


def _steps(below: Node, own: Node, problems: Problems) -> Node:
    """Steps over those of the files that are extended: after them, or as `own` says."""
    if below.kind != LIST:
        return own  # what is wrong with the others is told when they are read
    made = Node(LIST, own.line, own.column, source=own.source)
    if own.kind == LIST:
        return _after(below, own)
    if own.kind == NULL:
        return made
    if own.kind != MAPPING:
        return own
    parts: dict[str, Node] = {}
    for key, value in own.pairs:
        expected = MAPPING if key.text == "replace" else LIST
        if key.text not in EDITS:
            near = did_you_mean(key.text, EDITS)
            text = f"unknown key {quote(key.text)} in 'steps'{near}"
            problems.add(key.fault(text, None if near else f"known here: {', '.join(EDITS)}"))
        elif value.kind != expected:
            wanted = "a list of steps" if expected == LIST else "a mapping of names to steps"
            problems.add(value.fault(f"found {value.show()}, expected {wanted}"))
        else:
            parts[key.text] = value
    items = list(below.items)
    for key, value in parts["replace"].pairs if "replace" in parts else ():
        try:
            _replace(items, key, value)
        except Fault as fault:
            problems.add(fault)
    before, after = (parts[each].items if each in parts else [] for each in ("prepend", "append"))
    made.items = [*before, *items, *after]
    return made


def _replace(items: list[Node], key: Node, value: Node) -> None:
    """Put `value` in the place of the step of this name; null takes it out."""
    names = [name.text if (name := each.get("name")) else "" for each in items]
    found = [number for number, name in enumerate(names) if name == key.text]
    if not found:
        near = did_you_mean(key.text, [name for name in names if name])
        raise key.fault(f"no step that is extended has the name {quote(key.text)}{near}")
    if len(found) > 1:
        raise key.fault(f"{len(found)} steps have the name {quote(key.text)}, expected one")
    if value.kind == NULL:
        del items[found[0]]
        return
    if value.kind == MAPPING and value.get("name") is None:
        word = Node(TEXT, key.line, key.column, "name", key.source)
        value = _like(value, [*value.pairs, (word, key)])
    items[found[0]] = value
