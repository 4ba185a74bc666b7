"""Bake files, HCL and JSON: their blocks, and what these say once all is evaluated.

By the rules of `docker buildx bake`: attributes at the top stand over variables of their name, the
blocks of one target are merged in the order of the files, a matrix makes a target of each row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from builder.bake import ast
from builder.bake.evaluate import MAX_CALLS, Evaluator, Meter
from builder.bake.functions import Function, function
from builder.bake.model import Bake, Default, Group
from builder.bake.parse import parse_file
from builder.bake.target import KNOWN, LISTS, MAPS, TEXTS, TRUTHS, Place, Said, Target, merged
from builder.bake.text import Text
from builder.bake.values import Val, Wrong, kind, said_by, say, shown, truth
from builder.spec.source import Source, did_you_mean, quote

MAX_TARGETS = 1000
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_KINDS = ("target", "group", "variable", "function")


class _At(NamedTuple):
    """A block or an attribute, and the text that it stands in."""

    text: Text
    found: Any


def read(sources: Sequence[Source]) -> Bake:
    """Raises Fault."""
    reader = _Reader()
    for source in sources:
        text = Text(source, source.text)
        if source.file.lower().endswith(".json"):
            from builder.bake.fromjson import json_body

            reader.add(text, json_body(text))
        else:
            reader.add(text, parse_file(source))
    return reader.done()


class _Reader:
    def __init__(self) -> None:
        self.meter = Meter()
        self.attributes: dict[str, _At] = {}
        self.variables: dict[str, _At] = {}
        self.functions: dict[str, _At] = {}
        self.blocks: list[_At] = []  # of targets and groups, in their order
        self.values: dict[str, Val] = {}
        self.order: list[Default] = []
        self.under_way: list[str] = []
        self.calls = 0
        self.targets: dict[str, Target] = {}
        self.groups: dict[str, Group] = {}
        self.remarks: list[tuple[Place, str]] = []

    def add(self, text: Text, body: ast.Body) -> None:
        for each in body.attributes.values():
            self.attributes[each.name] = _At(text, each)
        for block in body.blocks:
            if block.kind not in _KINDS:
                known = ", ".join(_KINDS)
                raise text.fault(
                    block.at,
                    f"there is no block {quote(block.kind)}, expected one of {known}"
                    f"{did_you_mean(block.kind, _KINDS)}",
                )
            if len(block.labels) != 1:
                raise text.fault(
                    block.at,
                    f"{block.kind} has {len(block.labels)} names, expected one",
                    f'write {block.kind} "name" {{...}}',
                )
            name = block.labels[0]
            if block.kind == "variable":
                self.variables[name] = _At(text, block)
            elif block.kind == "function":
                self.functions[name] = _At(text, block)
            else:
                if not _NAME.fullmatch(name):
                    raise text.fault(
                        block.at,
                        f"{block.kind} {quote(name)}: expected letters, digits, '-' and '_'",
                    )
                self.blocks.append(_At(text, block))

    def done(self) -> Bake:
        for at in self.blocks:
            if at.found.kind == "group":
                self._group(at)
            else:
                self._target(at)
        for name in self.variables:  # what is wrong in one that nothing uses is told too
            at = self.variables[name]
            try:
                self.variable(name)
            except Wrong as wrong:
                raise at.text.fault(at.found.at, wrong.message, wrong.hint) from None
        for name in self.functions:
            self.function(name)
        return Bake(tuple(self.order), self.groups, self.targets, tuple(self.remarks))

    def remark(self, text: Text, at: int, message: str) -> None:
        self.remarks.append((self._place(text, at), message))

    # -- variables and functions -------------------------------------------------------------------

    def evaluator(self, text: Text) -> Evaluator:
        return Evaluator(text, self.meter, self.variable, self.function)

    def variable(self, name: str) -> Val:
        """Raises Wrong and Fault."""
        if name in self.values:
            return self.values[name]
        if name in ("target", "group"):
            return self._blocks_as_value(name)
        at = self.attributes.get(name) or self.variables.get(name)
        if at is None:
            if name == "BAKE_LOCAL_PLATFORM":
                return Val("linux/amd64", frozenset((name,)), say("host.platform"))
            if name == "BAKE_CMD_CONTEXT":
                return Val(".")
            known = [*self.attributes, *self.variables]
            raise Wrong(f"there is no variable {quote(name)}{did_you_mean(name, known)}")
        if name in self.under_way:
            raise Wrong(
                f"variable {quote(name)} needs itself: {' -> '.join((*self.under_way, name))}"
            )
        if len(self.under_way) > MAX_CALLS:
            raise Wrong(f"more than {MAX_CALLS} variables need one another")
        self.under_way.append(name)
        if isinstance(at.found, ast.Attribute):
            value = self.evaluator(at.text).value(at.found.value, {})
        else:
            value = self._default(at)
        self.under_way.pop()
        if name in self.variables:
            # others say it by its name; a list's entries are what they are here
            self.order.append(Default(name, value, self._place(at.text, at.found.at)))
            said = None if isinstance(value.data, dict) else say(said_by(name))
            value = Val(value.data, frozenset((name,)), said)
        self.values[name] = value
        return value

    def _default(self, at: _At) -> Val:
        body = at.found.body
        for name in body.attributes:
            if name not in ("default", "description", "type"):
                self._unknown(at.text, body.attributes[name], ("default", "description", "type"))
        for block in body.blocks:
            if block.kind != "validation":
                raise at.text.fault(block.at, f"a variable has no {quote(block.kind)}")
            self.remark(at.text, block.at, f"the validation of {at.found.labels[0]} is not kept")
        default = body.attributes.get("default")
        wanted = body.attributes.get("type")
        if default is None:
            return Val("" if wanted is None else None)
        value = self.evaluator(at.text).value(default.value, {})
        if wanted is not None and isinstance(wanted.value, ast.Variable) and value.data is not None:
            try:
                if wanted.value.name == "string":
                    return Val(shown(value.data), value.names, value.said)
                if wanted.value.name == "bool":
                    return Val(truth(value.data), value.names)
                if wanted.value.name == "number":
                    from builder.bake.values import number

                    return Val(number(value.data), value.names)
            except Wrong as wrong:
                raise at.text.fault(default.at, wrong.message, wrong.hint) from None
        return value

    def function(self, name: str) -> Function:
        """Raises Wrong."""
        at = self.functions.get(name)
        if at is None:
            return function(name, self.meter)
        body = at.found.body
        for each in body.attributes:
            if each not in ("params", "variadic_params", "result"):
                self._unknown(
                    at.text, body.attributes[each], ("params", "variadic_params", "result")
                )
        if "params" not in body.attributes or "result" not in body.attributes:
            raise at.text.fault(at.found.at, f"function {quote(name)} needs params and result")
        params = self._params(at.text, body.attributes["params"])
        rest = body.attributes.get("variadic_params")
        variadic = rest.value.name if rest and isinstance(rest.value, ast.Variable) else None

        def call(args: list[Val]) -> Val:
            if len(args) < len(params) or (len(args) > len(params) and variadic is None):
                raise Wrong(f"{len(args)} arguments, expected {len(params)}")
            scope = dict(zip(params, args, strict=False))
            if variadic is not None:
                scope[variadic] = Val(args[len(params) :])
            self.calls += 1
            if self.calls > MAX_CALLS:
                raise Wrong(f"more than {MAX_CALLS} calls within each other: does it call itself?")
            made = self.evaluator(at.text).value(body.attributes["result"].value, scope)
            self.calls -= 1
            return made

        return call

    def _params(self, text: Text, params: ast.Attribute) -> list[str]:
        items = params.value.items if isinstance(params.value, ast.ListOf) else None
        if items is None or not all(isinstance(each, ast.Variable) for each in items):
            raise text.fault(params.at, "params is no list of names", "write params = [a, b]")
        return [each.name for each in items]

    def _unknown(self, text: Text, found: ast.Attribute, known: Sequence[str]) -> NoReturn:
        near = did_you_mean(found.name, known)
        raise text.fault(found.at, f"there is no attribute {quote(found.name)} here{near}")

    def _blocks_as_value(self, kind_of: str) -> Val:
        """`target.NAME.ATTRIBUTE`, of what stands above."""
        if kind_of == "group":
            made = {
                each.name: Val({"targets": Val([Val(name) for name in each.targets])})
                for each in self.groups.values()
            }
            return Val(made)
        return Val(
            {
                each.name: Val({name: said.value for name, said in each.said.items()})
                for each in self.targets.values()
            }
        )

    # -- targets and groups ------------------------------------------------------------------------

    def _place(self, text: Text, at: int) -> Place:
        return text.source, *text.place(at)

    def _group(self, at: _At) -> None:
        name = at.found.labels[0]
        names: tuple[str, ...] = ()
        for each in at.found.body.attributes.values():
            if each.name == "targets":
                value = self.evaluator(at.text).value(each.value, {})
                names = tuple(self._texts(at.text, each, value))
            elif each.name != "description":
                self._unknown(at.text, each, ("targets", "description"))
        self.groups[name] = Group(name, names, self._place(at.text, at.found.at))

    def _texts(self, text: Text, found: ast.Attribute, value: Val) -> list[str]:
        if not isinstance(value.data, list):
            raise text.fault(
                found.at, f"{found.name} is {kind(value.data)}, expected a list of texts"
            )
        try:
            return [shown(each.data) for each in value.data]
        except Wrong as wrong:
            raise text.fault(found.at, f"an entry of {found.name} is {wrong.message}") from None

    def _target(self, at: _At) -> None:
        block, text = at.found, at.text
        attributes = block.body.attributes
        for each in block.body.blocks:
            raise text.fault(
                each.at, f"a target has no block {quote(each.kind)}", "write = { ... }"
            )
        for each in attributes.values():
            if each.name not in (*KNOWN, "inherits", "matrix", "name"):
                self._unknown(text, each, (*KNOWN, "inherits", "matrix", "name"))
        label = block.labels[0]
        if "matrix" not in attributes:
            if "name" in attributes:
                raise text.fault(attributes["name"].at, "name is given, but there is no matrix")
            self._one(text, block, label, {})
            return
        names: list[str] = []
        for row in self._rows(text, attributes["matrix"]):
            name = label
            if "name" in attributes:
                found = self.evaluator(text).value(attributes["name"].value, row)
                name = self._name(text, attributes["name"], found)
            if name in names:
                raise text.fault(
                    attributes["matrix"].at,
                    f"two rows of the matrix are called {quote(name)}",
                    "give a name that has the variables of the matrix in it",
                )
            names.append(name)
            self._one(text, block, name, row)
        if names != [label]:
            self.groups[label] = Group(label, tuple(names), self._place(text, block.at))

    def _name(self, text: Text, found: ast.Attribute, value: Val) -> str:
        if not isinstance(value.data, str) or not _NAME.fullmatch(value.data):
            shown_as = quote(value.data) if isinstance(value.data, str) else kind(value.data)
            raise text.fault(
                found.at,
                f"the name {shown_as}: expected letters, digits, '-' and '_'",
                "sanitize() makes others '_'",
            )
        return value.data

    def _rows(self, text: Text, found: ast.Attribute) -> list[dict[str, Val]]:
        matrix = self.evaluator(text).value(found.value, {})
        if not isinstance(matrix.data, dict):
            raise text.fault(
                found.at, f"matrix is {kind(matrix.data)}, expected an object of lists"
            )
        rows: list[dict[str, Val]] = [{}]
        for axis in matrix.data:
            values = matrix.data[axis]
            if not isinstance(values.data, list):
                message = f"matrix {quote(axis)} is {kind(values.data)}, expected a list"
                raise text.fault(found.at, message)
            if len(rows) * len(values.data) > MAX_TARGETS:
                raise text.fault(found.at, f"the matrix makes more than {MAX_TARGETS} targets")
            rows = [{**row, axis: value} for value in values.data for row in rows]
        return rows

    def _one(self, text: Text, block: ast.Block, name: str, row: dict[str, Val]) -> None:
        said: dict[str, Said] = {}
        inherits: tuple[str, ...] = ()
        evaluator = self.evaluator(text)
        for each in block.body.attributes.values():
            if each.name in ("matrix", "name"):
                continue
            value = evaluator.value(each.value, row)
            if each.name == "inherits":
                inherits = tuple(self._texts(text, each, value))
            else:
                place = self._place(text, each.at)
                said[each.name] = Said(self._typed(text, each, value), place)
        before = self.targets.get(name)
        if before is not None:
            said = merged(before.said, said)
            inherits = before.inherits + inherits
        if before is None and len(self.targets) >= MAX_TARGETS:
            raise text.fault(block.at, f"more than {MAX_TARGETS} targets")
        self.targets[name] = Target(name, self._place(text, block.at), said, inherits)

    def _typed(self, text: Text, found: ast.Attribute, value: Val) -> Val:
        """As the attribute wants it."""
        data = value.data
        try:
            if data is None:
                return value
            if found.name in TEXTS:
                return Val(shown(data), value.names, value.said)
            if found.name in TRUTHS:
                return Val(truth(data), value.names, value.said)
            if found.name in LISTS and not isinstance(data, list):
                raise Wrong(f"{kind(data)}, expected a list")
            if found.name in MAPS and not isinstance(data, dict):
                raise Wrong(f"{kind(data)}, expected an object")
            texts: list[Val] = []
            if isinstance(data, dict):
                texts = [each for each in data.values() if each.data is not None]
            elif found.name in ("tags", "platforms"):
                texts = data
            for each in texts:
                shown(each.data)
        except Wrong as wrong:
            raise text.fault(found.at, f"{found.name} is {wrong.message}") from None
        return value
