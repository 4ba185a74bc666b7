"""Compose files as one tree: merge keys, `extends`, `include` and further files put together.

By the Compose specification: mappings are merged key by key, lists are put behind one another,
other values replace; `!reset` takes a value away and `!override` replaces all of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from builder.errors import SpecErrors
from builder.spec.node import LIST, MAPPING, MAX_NODES, NULL, TEXT, Node, parse_yaml
from builder.spec.source import Fault, Problems, Source, did_you_mean, quote

MAX_FILES = 50
MAX_EXTENDS = 20  # services that extend one another
TAGS = ("!reset", "!override")
_PATHS = ("context",)  # of a build section, relative to the file
_BY_NAME = ("args", "labels", "environment", "additional_contexts", "extra_hosts")

Load = Callable[[str], Source]
"""The file at a path. Raises UsageError and SpecErrors."""


class Files:
    """Reads compose files; `load` gives those that others name."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._files: dict[str, Node] = {}
        self._size = 0

    def whole(self, sources: Sequence[Source], folder: str) -> Node:
        """All of the files as one; paths are relative to `folder`. Raises Fault."""
        made: Node | None = None
        for source in sources:
            tree = self._included(self._tree(source), source.file, folder, 0)
            made = tree if made is None else self._merged(made, tree, "")
        assert made is not None
        return made

    def _tree(self, source: Source) -> Node:
        known = self._files.get(source.file)
        if known is not None:
            return known
        if len(self._files) >= MAX_FILES:
            raise Fault(1, 1, f"more than {MAX_FILES} files", None, source)
        problems = Problems(source)
        tree = parse_yaml(source, problems, TAGS)
        if len(problems):
            raise SpecErrors(problems.errors())
        if tree.kind != MAPPING:
            raise tree.fault(f"{tree.show()} stands here, expected a mapping with services")
        tree = self._unfolded(tree, {})
        self._files[source.file] = tree
        return tree

    def _unfolded(self, node: Node, done: dict[int, Node]) -> Node:
        """With what `<<` brings written out; what is given beside it counts."""
        if id(node) in done:
            return done[id(node)]
        made = _like(node)
        made.items = [self._unfolded(each, done) for each in node.items]
        brought: list[Node] = []
        for key, value in node.pairs:
            inner = self._unfolded(value, done)
            if key.text != "<<" or key.style is not None:
                made.pairs.append((key, inner))
                continue
            for each in inner.items if inner.kind == LIST else [inner]:
                if each.kind != MAPPING:
                    raise value.fault(
                        f"'<<' has {each.show()}, expected a mapping", "an alias: *name"
                    )
                brought.append(each)
        names = {key.text for key, _ in made.pairs}
        for each in brought:
            more = [(key, value) for key, value in each.pairs if key.text not in names]
            names |= {key.text for key, _ in more}
            made.pairs += more
        self._size += len(made.pairs) + len(made.items)
        if self._size > MAX_NODES:
            raise node.fault(f"more than {MAX_NODES} values, with all aliases")
        done[id(node)] = made
        return made

    # -- other files -------------------------------------------------------------------------------

    def _included(self, tree: Node, file: str, folder: str, depth: int) -> Node:
        """The tree, over those that its `include` names, with the services that extend others."""
        made: Node | None = None
        include = tree.get("include")
        if depth > MAX_EXTENDS:
            raise tree.fault(f"more than {MAX_EXTENDS} files include one another")
        for each in _entries(include):
            path = each.get("path") if each.kind == MAPPING else each
            for one in _entries(path):
                if one.kind != TEXT:
                    raise each.fault(f"{one.show()} stands here, expected the path of a file")
                source = self._named(one, file)
                inner = self._included(self._tree(source), source.file, folder, depth + 1)
                made = inner if made is None else self._merged(made, inner, "")
        own = _like(tree)
        for key, value in tree.pairs:
            if key.text == "services" and value.kind == MAPPING:
                services = _like(value)
                for name, service in value.pairs:
                    found = self._extended(service, tree, file, folder, (f"{file} {name.text}",))
                    services.pairs.append((name, found))
                value = services
            own.pairs.append((key, value))
        return own if made is None else self._merged(made, own, "")

    def _named(self, node: Node, file: str) -> Source:
        path = os.path.normpath(os.path.join(os.path.dirname(file), node.text))
        try:
            return self._load(path)
        except Exception as error:
            what = getattr(error, "what", None)
            if what is None:
                raise
            raise node.fault(what, getattr(error, "hint", None)) from None

    def _extended(
        self, service: Node, tree: Node, file: str, folder: str, above: tuple[str, ...]
    ) -> Node:
        """A service over the one that it extends."""
        service = _with_paths(service, os.path.relpath(os.path.dirname(file) or ".", folder))
        extends = service.get("extends") if service.kind == MAPPING else None
        if extends is None:
            return service
        named = extends.get("service") if extends.kind == MAPPING else extends
        if named is None or named.kind != TEXT:
            raise extends.fault("extends names no service", "write extends: {service: NAME}")
        of = extends.get("file") if extends.kind == MAPPING else None
        if of is not None:
            source = self._named(of, file)
            tree, file = self._tree(source), source.file
        services = tree.get("services")
        found = services.get(named.text) if services else None
        if found is None or services is None:
            names = [key.text for key, _ in services.pairs] if services else []
            raise named.fault(
                f"there is no service {quote(named.text)}{did_you_mean(named.text, names)}"
            )
        here = f"{file} {named.text}"
        if here in above or len(above) > MAX_EXTENDS:
            raise named.fault(f"service {quote(named.text)} extends itself, through others or not")
        base = self._extended(found, tree, file, folder, (*above, here))
        own = _like(service)
        own.pairs = [pair for pair in service.pairs if pair[0].text != "extends"]
        return self._merged(base, own, "service")

    # -- merging -----------------------------------------------------------------------------------

    def _merged(self, first: Node, second: Node, name: str) -> Node:
        self._size += 1
        if self._size > MAX_NODES:
            raise second.fault(f"more than {MAX_NODES} values, with all aliases")
        if second.style == "!override":
            return second
        if name == "build":
            first, second = as_build(first), as_build(second)
        if name in _BY_NAME:
            first, second = as_mapping(first), as_mapping(second)
        if first.kind == LIST and second.kind == LIST:
            made = _like(second)
            known = {each.text for each in first.items if each.kind == TEXT}
            made.items = [
                *first.items,
                *(e for e in second.items if e.text not in known or e.kind != TEXT),
            ]
            return made
        if first.kind != MAPPING or second.kind != MAPPING:
            return second
        made = _like(second)
        given = {key.text: (key, value) for key, value in second.pairs}
        for key, value in first.pairs:
            if key.text not in given:
                made.pairs.append((key, value))
                continue
            other, over = given.pop(key.text)
            if over.style != "!reset":
                made.pairs.append((other, self._merged(value, over, key.text)))
        made.pairs += [pair for pair in given.values() if pair[1].style != "!reset"]
        return made


def _like(node: Node) -> Node:
    made = Node(node.kind, node.line, node.column, node.text, node.source)
    made.style = node.style
    return made


def _entries(node: Node | None) -> list[Node]:
    if node is None or node.kind == NULL:
        return []
    return node.items if node.kind == LIST else [node]


def as_build(node: Node) -> Node:
    if node.kind != TEXT:
        return node
    made = Node(MAPPING, node.line, node.column, source=node.source)
    made.pairs = [(Node(TEXT, node.line, node.column, "context", node.source), node)]
    return made


def as_mapping(node: Node) -> Node:
    """`[A=1, B]` as {A: 1, B: null}."""
    if node.kind != LIST:
        return node
    made = Node(MAPPING, node.line, node.column, source=node.source)
    for each in node.items:
        name, equals, value = each.text.partition("=")
        key = Node(TEXT, each.line, each.column, name, each.source)
        kind = TEXT if equals else NULL
        made.pairs.append((key, Node(kind, each.line, each.column, value, each.source)))
    return made


def _with_paths(service: Node, folder: str) -> Node:
    """A service of a file in another folder, with the paths of its build section from here."""
    build = service.get("build") if service.kind == MAPPING else None
    if build is None or folder == "." or build.kind == NULL:
        return service
    build = as_build(build)
    made = _like(build)
    for key, value in build.pairs:
        if key.text in _PATHS and value.kind == TEXT and _is_path(value.text):
            moved = _like(value)
            moved.text = os.path.normpath(os.path.join(folder, value.text))
            value = moved
        made.pairs.append((key, value))
    whole = _like(service)
    whole.pairs = [(key, made if key.text == "build" else value) for key, value in service.pairs]
    return whole


def _is_path(text: str) -> bool:
    return not os.path.isabs(text) and "://" not in text and not text.startswith(("$", "git@", "~"))
