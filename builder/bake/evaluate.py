"""Evaluate: an HCL expression to its value, which knows how a template says it.

What needs too many steps, or makes too much, is an error: a file of another may hold anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, localcontext
from typing import Any, NoReturn

from builder.bake import ast
from builder.bake.text import Text
from builder.bake.values import (
    NOTHING,
    Val,
    Wrong,
    depends,
    kind,
    number,
    plain,
    say,
    shown,
    truth,
    whole,
)
from builder.dockerfile.expand import Value
from builder.spec.source import quote

MAX_STEPS = 300_000
MAX_TEXT = 1 << 20  # characters of one text
MAX_CALLS = 40  # functions of the file within each other

Scope = Mapping[str, Val]


class Meter:
    """What all of a file's expressions may take together."""

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, count: int) -> None:
        """Raises Wrong."""
        self.left -= count
        if self.left < 0:
            raise Wrong(f"it takes more than {MAX_STEPS} steps to evaluate this file")


class Evaluator:
    """`variable` gives what a name of the file stands for, `function` what is called by a name.
    Both raise Wrong."""

    def __init__(
        self,
        text: Text,
        meter: Meter,
        variable: Callable[[str], Val],
        function: Callable[[str], Callable[[list[Val]], Val]],
    ) -> None:
        self._text, self._meter = text, meter
        self._variable, self._function = variable, function

    def value(self, node: Any, scope: Scope) -> Val:
        """Raises Fault at the innermost place."""
        try:
            self._meter.spend(1)
            found = self._read(node, scope)
            if isinstance(found.data, str) and len(found.data) > MAX_TEXT:
                raise Wrong(f"a text grows longer than {MAX_TEXT} characters")
            return found
        except Wrong as wrong:
            raise self._text.fault(node.at, wrong.message, wrong.hint) from None
        except RecursionError:
            raise self._text.fault(node.at, "the expression is nested too deeply") from None

    def _fail(self, node: Any, message: str, hint: str | None = None) -> NoReturn:
        raise self._text.fault(node.at, message, hint)

    def _read(self, node: Any, scope: Scope) -> Val:
        if isinstance(node, ast.Literal):
            return Val(node.value)
        if isinstance(node, ast.Variable):
            return scope[node.name] if node.name in scope else self._variable(node.name)
        if isinstance(node, ast.Template):
            return self._template(node, scope)
        if isinstance(node, ast.ListOf):
            return Val([self.value(each, scope) for each in node.items])
        if isinstance(node, ast.ObjectOf):
            return self._object(node, scope)
        if isinstance(node, ast.For):
            return self._for(node, scope)
        if isinstance(node, ast.Index):
            return self._index(self.value(node.of, scope), self.value(node.index, scope))
        if isinstance(node, ast.Splat):
            return self._splat(node, scope)
        if isinstance(node, ast.Call):
            return self._call(node, scope)
        if isinstance(node, ast.Unary):
            return self._unary(node, scope)
        if isinstance(node, ast.Binary):
            left = self.value(node.left, scope)
            right = self.value(node.right, scope)
            return binary(node.sign, left, right)
        return self._choice(node, scope)

    # -- texts -------------------------------------------------------------------------------------

    def _template(self, node: ast.Template, scope: Scope) -> Val:
        return concatenated(self._parts(node, scope))

    def _parts(self, node: ast.Template, scope: Scope) -> list[Val]:
        made: list[Val] = []
        for part in node.parts:
            if isinstance(part, str):
                made.append(Val(part))
            elif isinstance(part, ast.TemplateIf):
                made.append(self._choice(ast.Choice(*part), scope))
            elif isinstance(part, ast.TemplateFor):
                over = self.value(part.over, scope)
                for inner in self._rounds(part, over, scope):
                    made += self._parts(part.body, inner)
                if over.names:
                    made.append(Val("", over.names))
            else:
                value = self.value(part, scope)
                if value.data is None or isinstance(value.data, list | dict):
                    self._fail(part, f"{kind(value.data)} within a text, expected text or a number")
                made.append(value)
        return made

    def _rounds(self, node: Any, over: Val, scope: Scope) -> list[dict[str, Val]]:
        """The scope of each round of a loop."""
        if isinstance(over.data, dict):
            pairs = [(Val(key), over.data[key]) for key in sorted(over.data)]
        elif isinstance(over.data, list):
            pairs = [(Val(number), each) for number, each in enumerate(over.data)]
        else:
            self._fail(node, f"for loops over {kind(over.data)}, expected a list or an object")
        self._meter.spend(len(pairs) * (1 + len(scope)))
        names = [*([node.key] if node.key else []), node.name]
        return [{**scope, **dict(zip(names, pair[-len(names) :], strict=True))} for pair in pairs]

    # -- lists and objects -------------------------------------------------------------------------

    def _object(self, node: ast.ObjectOf, scope: Scope) -> Val:
        made: dict[str, Val] = {}
        names = NOTHING
        for key, value in node.pairs:
            name = self.value(key, scope)
            names |= name.names
            made[self._key(key, name)] = self.value(value, scope)
        return Val(made, names)

    def _key(self, node: Any, key: Val) -> str:
        if key.data is None or isinstance(key.data, list | dict):
            self._fail(node, f"a key is {kind(key.data)}, expected text")
        return shown(key.data)

    def _for(self, node: ast.For, scope: Scope) -> Val:
        over = self.value(node.over, scope)
        names = over.names
        items: list[Val] = []
        pairs: dict[str, Val] = {}
        for inner in self._rounds(node, over, scope):
            if node.condition is not None:
                wanted = self.value(node.condition, inner)
                names |= depends(wanted)
                if not truth(wanted.data):
                    continue
            result = self.value(node.result, inner)
            if node.key_of is None:
                items.append(result)
                continue
            key = self.value(node.key_of, inner)
            names |= key.names
            name = self._key(node.key_of, key)
            if node.grouped:
                pairs.setdefault(name, Val([])).data.append(result)
            elif name in pairs:
                self._fail(node, f"two entries have the key {quote(name)}", "write ... behind it")
            else:
                pairs[name] = result
        return Val(items if node.key_of is None else pairs, names)

    def _index(self, of: Val, index: Val) -> Val:
        data = of.data
        names = of.names | depends(index)
        if isinstance(data, list):
            at = number(index.data)
            if not isinstance(at, int) or not 0 <= at < len(data):
                raise Wrong(f"there is no entry {shown(index.data)} in a list of {len(data)}")
            found = data[at]
        elif isinstance(data, dict):
            name = shown(index.data)
            if name not in data:
                known = ", ".join(sorted(data)[:10]) or "nothing"
                raise Wrong(f"there is no {quote(name)} in an object of {known}")
            found = data[name]
        else:
            raise Wrong(f"{kind(data)} has no entries")
        if not names:
            return Val(*found)
        return Val(found.data, names | found.names)

    def _splat(self, node: ast.Splat, scope: Scope) -> Val:
        over = self.value(node.of, scope)
        items = (
            over.data if isinstance(over.data, list) else [over] if over.data is not None else []
        )
        self._meter.spend(len(items))
        return Val([self.value(node.body, {**scope, "*": each}) for each in items], over.names)

    # -- calls and operators -----------------------------------------------------------------------

    def _call(self, node: ast.Call, scope: Scope) -> Val:
        from builder.spec.source import Fault

        if node.name in ("try", "can"):
            for each in node.args:
                try:
                    found = self.value(each, scope)
                except Fault:
                    if self._meter.left < 0:
                        raise
                    continue
                return found if node.name == "try" else Val(True)
            if node.name == "can":
                return Val(False)
            raise Wrong("no argument of try() has a value")
        args = [self.value(each, scope) for each in node.args]
        if node.spread:
            last = args.pop()
            if not isinstance(last.data, list):
                raise Wrong(f"{kind(last.data)} before ..., expected a list")
            args += [Val(each.data, each.names | last.names, each.said) for each in last.data]
        function = self._function(node.name)
        try:
            return function(args)
        except Wrong as wrong:
            if wrong.message.startswith("it takes"):
                raise
            raise Wrong(f"{node.name}(): {wrong.message}", wrong.hint) from None

    def _unary(self, node: ast.Unary, scope: Scope) -> Val:
        of = self.value(node.operand, scope)
        data: Any = -number(of.data) if node.sign == "-" else not truth(of.data)
        said = f"(not {of.code})" if node.sign == "!" and of.sayable else None
        return Val(data, of.names, say(said) if said and of.names else None)

    def _choice(self, node: ast.Choice, scope: Scope) -> Val:
        from builder.spec.source import Fault

        condition = self.value(node.condition, scope)
        wanted = truth(condition.data)
        found = self.value(node.then if wanted else node.other, scope)
        if not condition.names:
            return found
        names = condition.names | found.names
        try:
            other = self.value(node.other if wanted else node.then, scope)
        except Fault:
            return Val(found.data, names)
        names |= other.names
        then, otherwise = (found, other) if wanted else (other, found)
        if kind(then.data) != kind(otherwise.data) or isinstance(then.data, dict):
            return Val(found.data, names)
        if not (condition.sayable and _all_sayable(then) and _all_sayable(otherwise)):
            return Val(found.data, names)
        loose = None
        if isinstance(found.data, list):
            first, second = entries(then), entries(otherwise)
            if first is not None and second is not None:
                loose = (
                    *(_only(condition, each, Val("")) for each in first),
                    *(_only(condition, Val(""), each) for each in second),
                )
        return Val(
            found.data,
            names | depends(then, otherwise),
            say(f"({then.code} if {condition.code} else {otherwise.code})"),
            loose,
        )


def entries(value: Val) -> tuple[Val, ...] | None:
    """Of a list that is sayable, with those that may come out empty; None: they are not known."""
    return tuple(value.data) if not value.names else value.loose


def _only(condition: Val, then: Val, other: Val) -> Val:
    names = condition.names | then.names | other.names
    data = then.data or other.data
    return Val(data, names, say(f"({then.code} if {condition.code} else {other.code})"))


def _all_sayable(value: Val) -> bool:
    if value.names:
        return value.said is not None
    return not isinstance(value.data, list) or all(map(_all_sayable, value.data))


def concatenated(parts: list[Val]) -> Val:
    """Texts and numbers beside each other."""
    text = "".join(shown(each.data) for each in parts)
    names = frozenset().union(*(each.names for each in parts))
    if not names or not all(each.sayable for each in parts):
        return Val(text, names)
    said: list[Any] = []
    for each in parts:
        for part in each.parts:
            if isinstance(part, str) and said and isinstance(said[-1], str):
                said[-1] += part
            elif part != "":
                said.append(part)
    made: Value = tuple(said)
    return Val(text, names, made)


_SAID = {"&&": "and", "||": "or"}


def binary(sign: str, left: Val, right: Val) -> Val:
    """Raises Wrong."""
    names = left.names | right.names
    if sign in ("==", "!="):
        names = depends(left, right)
        same = kind(left.data) == kind(right.data) and plain(left) == plain(right)
        data: Any = same == (sign == "==")
        if kind(left.data) != kind(right.data):
            return Val(data, names & NOTHING if None not in (left.data, right.data) else names)
    elif sign in ("&&", "||"):
        first, second = truth(left.data), truth(right.data)
        data = (first and second) if sign == "&&" else (first or second)
    else:
        data = _arithmetic(sign, number(left.data), number(right.data))
    if not names or not (_all_sayable(left) and _all_sayable(right)) or sign in ("/", "%"):
        return Val(data, names)
    expected = bool if sign in _SAID else (int, Decimal) if sign in "<>=+-*" else object
    if not all(isinstance(each.data, expected) for each in (left, right)) and sign not in (
        "==",
        "!=",
    ):
        return Val(data, names)  # a text that is taken for a number or a truth value
    return Val(data, names, say(f"({left.code} {_SAID.get(sign, sign)} {right.code})"))


def _arithmetic(sign: str, left: Any, right: Any) -> Any:
    if sign in ("<", ">", "<=", ">="):
        return {"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[
            sign
        ]
    if sign in ("/", "%") and right == 0:
        raise Wrong("a division by zero")
    with localcontext(prec=160):
        a, b = Decimal(left), Decimal(right)
        if sign == "%":
            return whole(a - b * (a / b).to_integral_value("ROUND_DOWN"))
        made = {"+": a.__add__, "-": a.__sub__, "*": a.__mul__, "/": a.__truediv__}[sign](b)
        return whole(+made)
