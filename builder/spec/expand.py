"""Expand: the entries of `steps` to steps: `when`, `foreach` and `include`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from builder.spec.compose import SpecFiles, without
from builder.spec.conditions import FOREACH_FIELD, WHEN_FIELD
from builder.spec.fields import BAD, Field, Kind, Reader, Table, data, read_table, text
from builder.spec.kinds import check_variable, place
from builder.spec.model import Skipped, Step
from builder.spec.node import LIST, MAPPING, TEXT, Node
from builder.spec.render import NeedsBase, plain
from builder.spec.source import Fault, nearest, quote
from builder.spec.steps import read_step, waiting_step

MAX_ENTRIES = 5000  # of all lists of steps, each round of a loop counted

_UNDECIDED: Any = object()
INCLUDE: Table = {
    "include": Field(
        text(expected="a path relative to this file"),
        "A file with a list of steps, relative to this one.",
        required=True,
    ),
    "vars": Field(data(check_variable), "Variables for these steps, over the spec's."),
}
_WHEN = WHEN_FIELD.kind
_FOREACH = FOREACH_FIELD.kind


class Steps:
    """Reads the steps of one image. `above` are the real paths of the files that lead to them;
    `each` is called with each entry that becomes a step, while its variables are known."""

    def __init__(
        self,
        reader: Reader,
        files: SpecFiles,
        above: tuple[str, ...],
        each: Callable[[Node], None] | None = None,
    ) -> None:
        self._reader = reader
        self._tell = each
        self._files = files
        self._above = above
        self._entries = 0

    def read(self, node: Node) -> Any:
        """The Steps and Skipped of a list, or BAD."""
        if node.kind != LIST:
            raise node.fault(f"found {node.show()}, expected a list of steps")
        found = list(self._each(node))
        return BAD if any(each is BAD for each in found) else tuple(found)

    def _each(self, node: Node) -> Iterator[Any]:
        for item in node.items:
            yield from self._entry(item)

    def _entry(self, node: Node) -> Iterator[Any]:
        self._count(node)
        loop = node.get("foreach")
        if loop is None:
            yield from self._one(node)
            return
        node = without(node, "foreach")
        found = self._reader.waiting(_FOREACH, loop, lambda: _UNDECIDED)
        if found is BAD or found is _UNDECIDED:
            yield BAD if found is BAD else self._undecided(node)
            return
        name, values = found
        for value in values:
            self._count(node)
            with self._reader.renderer.knowing({name: value}):
                yield from self._one(node)
        if not values:
            self._look_at(node)

    def _one(self, node: Node) -> Iterator[Any]:
        """An entry without its loop."""
        when = node.get("when")
        if when is not None:
            node = without(node, "when")
            found = self._reader.waiting(_WHEN, when, lambda: _UNDECIDED)
            if found is BAD or found is _UNDECIDED:
                yield BAD if found is BAD else self._undecided(node)
                return
            if not found:
                at = self._verb(node) or node
                why = f"when: {' '.join(when.text.split())}"
                yield Skipped(place(self._reader, at), self._label(node), why, 0)
                self._look_at(node)
                return
        if node.get("include") is not None:
            yield from self._include(node)
        else:
            yield self._step(node)

    def _step(self, node: Node) -> Any:
        reader = self._reader
        for key, _ in node.pairs if node.kind == MAPPING and not self._verb(node) else ():
            meant = nearest(key.text, [*self._reader.verbs, "include", "exclude"])
            if meant == "include":
                known = f"unknown step {quote(key.text)}, did you mean 'include'?"
                reader.problems.add(key.fault(known))
                return BAD
        if self._tell:
            self._tell(node)
        return reader.waiting(Kind(read_step, {}), node, lambda: waiting_step(reader, node))

    def _include(self, node: Node) -> Iterator[Any]:
        reader, at = self._reader, node.get("include")
        assert at is not None
        table = Kind(lambda reader, node: _include_table(reader, node), {})
        given = reader.waiting(table, node, lambda: _UNDECIDED)
        if given is BAD or given is _UNDECIDED:
            yield BAD if given is BAD else self._undecided(node)
            return
        above = self._above
        found = reader.take(
            Kind(lambda _, at: self._files.open(at, str(given["include"]), above), {}), at
        )
        if found is BAD:
            yield BAD
            return
        steps, path = found
        if steps.kind != LIST:
            reader.problems.add(steps.fault(f"found {steps.show()}, expected a list of steps"))
            yield BAD
            return
        self._above = (*above, path)
        via = steps.source.via
        try:
            with reader.renderer.knowing(given.get("vars", {})):
                for item in steps.items:
                    steps.source.via = via  # the file may be included elsewhere, too
                    yield from self._entry(item)
        finally:
            self._above = above

    def _undecided(self, node: Node) -> Step:
        """In the place of what the base decides; nothing is known of it but that it may run."""
        self._look_at(node)
        return self._reader.verbs["run"].waiting(place(self._reader, node), self._label(node))

    def _look_at(self, node: Node) -> None:
        """Note what is wrong in what is not done, whatever its templates give."""
        with blind(self._reader):
            if node.get("include") is not None:
                self._reader.take(Kind(_include_table, {}), node)
            else:
                self._reader.take(Kind(read_step, {}), node)

    def _label(self, node: Node) -> str:
        """What a step is called that is not read: its name, else its verb with what that takes."""
        pairs = [
            (k.text, v)
            for k, v in node.pairs
            if k.text in self._reader.verbs or k.text == "include"
        ]
        word, at = pairs[0] if pairs else ("", node)
        shown = node.get("name") or at
        try:
            found = self._reader.text(shown) if shown.kind == TEXT else shown.text
        except (Fault, NeedsBase):
            found = shown.text
        line = " ".join(plain(found, hidden=True).split())
        return line if shown is not at else f"{word} {line}".strip()

    def _verb(self, node: Node) -> Node | None:
        """What a step's verb takes."""
        verbs = self._reader.verbs
        return next((value for key, value in node.pairs if key.text in verbs), None)

    def _count(self, node: Node) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise node.fault(f"more than {MAX_ENTRIES} steps, each round of a loop counted")


def _include_table(reader: Reader, node: Node) -> Any:
    its_steps = {"name": "the steps of that file"}
    given = read_table(reader, node, INCLUDE, "an 'include' step", its_steps)
    return BAD if given is None else given


@contextmanager
def blind(reader: Reader) -> Iterator[None]:
    """Whatever templates give: what is read is only looked at."""
    waits, before = reader.waits, reader.renderer.blind
    reader.renderer.blind = True
    try:
        yield
    finally:
        reader.waits, reader.renderer.blind = waits, before
