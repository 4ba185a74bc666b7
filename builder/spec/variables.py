"""Variables: the values in force, those that are computed from others among them.

What a spec says is a template: the texts of its defaults are rendered over the variables before
them. What comes from outside (`--set`, vars files, the environment) is data and never rendered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builder.errors import UsageError
from builder.spec.fields import Reader, at_key, made_by_template
from builder.spec.given import typed
from builder.spec.kinds import check_variable
from builder.spec.node import LIST, MAPPING, Node, check_key
from builder.spec.render import NeedsBase
from builder.spec.source import Fault, quote
from builder.spec.syntax import Malformed

_DEEP = 100
_BEFORE = "a default uses the variables before it"


class Variables:
    """The variables of one image. `own` is the spec's `vars`, `shared` what vars files say, `sets`
    the texts of `--set`, `row` the image's row of the matrix, `seen` what is no variable and known
    to all templates: `spec`, `target`, `host`. Faults are noted in `reader`; a variable with one
    is unknown to its renderer."""

    def __init__(
        self,
        reader: Reader,
        own: Node | None,
        shared: Mapping[str, Any],
        sets: Mapping[str, str],
        row: Mapping[str, Any],
        seen: Mapping[str, Any],
    ) -> None:
        self._reader = reader
        self._shared, self._sets, self._row = shared, sets, row
        self._own: dict[str, tuple[int, Node, Node]] = {}  # place in the order, key, default
        self._values: dict[str, Any] = {}
        self._unknown: set[str] = set()
        reader.renderer.know(seen)
        reader.renderer.unknown = self._unknown
        self._defaults(own)
        self._all = {*row, *self._own, *shared}

    def all(self) -> dict[str, Any]:
        """Every variable that has a value, by its name."""
        for name in self._names():
            self._resolve(name, ())
        return {name: self._values[name] for name in self._names() if name in self._values}

    def needed(self, names: set[str]) -> None:
        """Let the renderer know those of these names that are variables."""
        for name in self._names():
            if name in names:
                self._resolve(name, ())

    def _names(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._row, *self._own, *self._shared])

    def _set(self, name: str, value: Any) -> None:
        self._values[name] = value
        self._reader.renderer.learn(name, value)

    def _defaults(self, own: Node | None) -> None:
        problems = self._reader.problems
        if own is None:
            return
        if own.kind != MAPPING:
            text = f"found {own.show()}, expected a mapping of names to values"
            problems.add(own.fault(text))
            return
        for number, (key, value) in enumerate(own.pairs):
            try:
                check_variable(key.text)
                check_key(key)
            except (Malformed, Fault) as error:
                problems.add(at_key(key, error))
                self._unknown.add(key.text)
            else:
                self._own[key.text] = (number, key, value)

    def _resolve(self, name: str, above: tuple[str, ...]) -> None:
        """Find the value of one variable; `above` are those whose defaults ask for it, the first of
        them first."""
        if name in self._values or name in self._unknown:
            return
        if name in self._row:
            value = self._row[name]
            text = self._sets.get(name)
            self._set(name, value if text is None else typed(name, text, value))
            return
        given = name in self._sets
        try:
            value = self._default(name, above)
        except NeedsBase:
            self._unknown.add(name)
            return
        except Fault as fault:
            if not given:
                self._reader.problems.add(fault)
                self._unknown.add(name)
                return
            value = ""
        if given:
            self._set(name, typed(name, self._sets[name], value))
        elif value is None:
            self._missing(name)
        else:
            self._set(name, value)

    def _default(self, name: str, above: tuple[str, ...]) -> Any:
        """What a variable is without `--set`. Raises Fault, NeedsBase."""
        if name in self._shared:
            return self._shared[name]
        _, key, value = self._own[name]
        if name in above:
            line = " -> ".join((*above[above.index(name) :], name))
            raise key.fault(f"variables in a circle: {line}")
        used = {each for node in _templates(value) for each in self._reader.names_in(node)}
        if len(above) > _DEEP:
            raise key.fault(f"more than {_DEEP} variables use each other in a line")
        for each in sorted(used & self._all):
            self._resolve(each, (*above, name))
            if each in self._own and each not in self._unknown:
                self._check_order(name, each)
        return self._reader.data(value)

    def _check_order(self, name: str, used: str) -> None:
        """Within a file, a default uses what stands before it; what a spec's parents say and what
        it says itself is in no order."""
        number, key, _ = self._own[name]
        later, other, _ = self._own[used]
        data = used in self._shared or used in self._sets or used in self._row
        if later > number and key.source is other.source and not data:
            raise key.fault(
                f"variable {quote(name)} uses {quote(used)}, which stands after it",
                f"{_BEFORE}: move {used!r} above {name!r}",
            )

    def _missing(self, name: str) -> None:
        self._unknown.add(name)
        message = f"variable {quote(name)} must be given"
        hint = f"--set {name}=VALUE, or in a --vars-file"
        if name not in self._own:
            raise UsageError(f"{message}: the vars file says null", hint)
        _, key, _ = self._own[name]
        self._reader.problems.add(key.fault(message, hint))


def _templates(node: Node) -> Iterator[Node]:
    if node.kind in (LIST, MAPPING):
        for each in (*node.items, *(value for _, value in node.pairs)):
            yield from _templates(each)
    elif made_by_template(node):
        yield node
