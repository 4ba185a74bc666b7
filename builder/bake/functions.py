"""The functions that bake files call, by name.

Those that only put entries together (`concat`, `merge`) are here, and keep what each entry depends
on; the others work on plain values, in `scalars.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builder.bake import scalars
from builder.bake.evaluate import Meter, binary, concatenated, entries
from builder.bake.sayings import SAID
from builder.bake.values import (
    Val,
    Wrong,
    depends,
    kind,
    number,
    of,
    plain,
    say,
    shown,
    truth,
    united,
)
from builder.spec.source import did_you_mean

MAX_ITEMS = 20_000  # entries of one list

Function = Callable[[list[Val]], Val]


def function(name: str, meter: Meter) -> Function:
    """Raises Wrong for one that is not known."""
    if name in scalars.UNSTEADY:
        raise Wrong(f"{name}() gives another value each time", "write the value, or a variable")
    if name in _ENTRIES:
        return lambda args: _counted(meter, args, _ENTRIES[name])
    if name in scalars.TABLE:
        return lambda args: _counted(meter, args, lambda each: _scalar(name, each))
    known = sorted((*_ENTRIES, *scalars.TABLE))
    raise Wrong(f"there is no function {name!r}{did_you_mean(name, known)}")


def _counted(meter: Meter, args: list[Val], call: Function) -> Val:
    for each in args:
        if isinstance(each.data, list | dict):
            meter.spend(len(each.data))
        elif isinstance(each.data, str):
            meter.spend(len(each.data) >> 8)
    made = call(args)
    if isinstance(made.data, list | dict):
        if len(made.data) > MAX_ITEMS:
            raise Wrong(f"it makes more than {MAX_ITEMS} entries")
        meter.spend(len(made.data))
    return made


def _scalar(name: str, args: list[Val]) -> Val:
    signature, call = scalars.TABLE[name]
    values = [plain(each) for each in args]
    data = call(*_converted(signature, values))
    names = depends(*args)
    if not names and name == "timestamp":
        names = frozenset(("timestamp()",))
    made = of(data)
    if not names:
        return made
    said = None
    if name in SAID and all(each.sayable for each in args):
        said = SAID[name](args)
    return Val(made.data, names, say(said) if said else None)


def _converted(signature: str, values: list[Any]) -> list[Any]:
    """Values as a signature has them: s text, n a number, b a truth value, l a list, m an object,
    d anything but null, z anything; `?` follows what may be left out, `*` what is repeated."""
    wanted: list[str] = []
    least = 0
    for char in signature:
        if char == "?":
            least -= 1
        elif char == "*":
            least -= 1
            wanted += [wanted[-1]] * (len(values) - len(wanted))
        else:
            wanted.append(char)
            least += 1
    if not least <= len(values) <= len(wanted):
        some = str(least) if least == len(wanted) else f"{least} or more"
        raise Wrong(f"{len(values)} arguments, expected {some}")
    made = []
    for place, (char, value) in enumerate(zip(wanted, values, strict=False), 1):
        try:
            made.append(_one(char, value))
        except Wrong as wrong:
            raise Wrong(f"argument {place} is {wrong.message}") from None
    return made


def _one(char: str, value: Any) -> Any:
    if char == "z":
        return value
    if value is None:
        raise Wrong("null, expected a value")
    if char == "s":
        return shown(value)
    if char == "n":
        return number(value)
    if char == "b":
        return truth(value)
    expected = {"l": list, "m": dict}.get(char)
    if expected and not isinstance(value, expected):
        raise Wrong(f"{kind(value)}, expected {'a list' if char == 'l' else 'an object'}")
    return value


# -- entries ---------------------------------------------------------------------------------------


def _list(value: Val) -> list[Val]:
    if not isinstance(value.data, list):
        raise Wrong(f"{kind(value.data)}, expected a list")
    return value.data


def _map(value: Val) -> dict[str, Val]:
    if not isinstance(value.data, dict):
        raise Wrong(f"{kind(value.data)}, expected an object")
    return value.data


def _exactly(args: list[Val], count: int) -> None:
    if len(args) != count:
        raise Wrong(f"{len(args)} arguments, expected {count}")


def _said_list(data: list[Val], args: list[Val], code: str) -> Val:
    """A list whose entries depend on variables, with what says it."""
    names = united(args) | united(data)
    return Val(data, names, say(code)) if names else Val(data)


def _sayable_list(value: Val) -> bool:
    return value.said is not None if value.names else all(each.sayable for each in _list(value))


def _concat(args: list[Val]) -> Val:
    if not args:
        raise Wrong("no arguments, expected lists")
    data = [each for one in args for each in _list(one)]
    names = united(args)
    if names and all(map(_sayable_list, args)):
        known = [entries(each) for each in args]
        loose = [one for each in known for one in each or ()]
        code = f"({' + '.join(each.code for each in args)})"
        return Val(data, names, say(code), None if None in known else tuple(loose))
    return Val(data, names)


def _compact(args: list[Val]) -> Val:
    _exactly(args, 1)
    data = [each for each in _list(args[0]) if each.data not in (None, "")]
    names = args[0].names | united(_list(args[0]))
    if names and _sayable_list(args[0]):
        code = f"({args[0].code} | select | list)"
        return Val(data, names, say(code), entries(args[0]))
    return Val(data, names)


def _join(args: list[Val]) -> Val:
    if len(args) < 2:
        raise Wrong("one argument, expected a separator and a list")
    sign, *lists = args
    between = Val(shown(sign.data), sign.names, sign.said)
    items = [each for one in lists for each in _list(one)]
    names = united(lists)
    if not names:
        parts: list[Val] = []
        for each in items:
            parts += [between, each] if parts else [each]
        return concatenated(parts)
    text = str(between.data).join(shown(each.data) for each in items)
    names |= between.names | united(items)
    if len(lists) == 1 and lists[0].said is not None and between.sayable:
        return Val(text, names, say(f"({lists[0].code} | join({between.code}))"))
    return Val(text, names)


def _distinct(args: list[Val]) -> Val:
    _exactly(args, 1)
    made: list[Val] = []
    seen: list[Any] = []
    for each in _list(args[0]):
        data = plain(each)
        if not any(kind(one) == kind(data) and one == data for one in seen):
            seen.append(data)
            made.append(each)
        if len(seen) > 1000:
            raise Wrong("more than 1000 different entries")
    return Val(made, args[0].names | united(_list(args[0])))


def _flatten(args: list[Val]) -> Val:
    _exactly(args, 1)

    def flat(value: Val) -> list[Val]:
        return [
            one
            for each in _list(value)
            for one in (flat(each) if isinstance(each.data, list) else [each])
        ]

    inner = [each for each in _list(args[0]) if isinstance(each.data, list)]
    return Val(flat(args[0]), args[0].names | united(inner))


def _merge(args: list[Val]) -> Val:
    made: dict[str, Val] = {}
    for each in args:
        if each.data is not None:
            made |= _map(each)
    return Val(made, united(args))


def _lookup(args: list[Val]) -> Val:
    if len(args) not in (2, 3):
        raise Wrong(f"{len(args)} arguments, expected an object, a key and a default")
    found = _map(args[0]).get(shown(args[1].data))
    names = args[0].names | args[1].names
    if found is None and len(args) == 2:
        raise Wrong(f"there is no {shown(args[1].data)!r} in the object")
    value = args[2] if found is None else found
    return Val(value.data, value.names | names) if names else value


def _element(args: list[Val]) -> Val:
    _exactly(args, 2)
    items, at = _list(args[0]), number(args[1].data)
    if not items or not isinstance(at, int) or at < 0:
        raise Wrong("there is no such entry")
    found, names = items[at % len(items)], args[0].names | args[1].names
    return Val(found.data, found.names | names) if names else found


def _slice(args: list[Val]) -> Val:
    _exactly(args, 3)
    items, start, end = _list(args[0]), number(args[1].data), number(args[2].data)
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(items)):
        raise Wrong(f"from {start} to {end} is no part of a list of {len(items)}")
    return Val(items[start:end], united(args))


def _zipmap(args: list[Val]) -> Val:
    _exactly(args, 2)
    keys, values = _list(args[0]), _list(args[1])
    if len(keys) != len(values):
        raise Wrong(f"{len(keys)} keys for {len(values)} values")
    pairs = dict(zip((shown(each.data) for each in keys), values, strict=True))
    return Val(pairs, united(args) | united(keys))


def _coalesce(args: list[Val]) -> Val:
    found = next((each for each in args if each.data is not None), None)
    if found is None:
        raise Wrong("no argument has a value")
    before = united(each for each in args[: args.index(found)])
    return Val(found.data, found.names | before) if before else found


def _coalesce_list(args: list[Val]) -> Val:
    found = next((each for each in args if _list(each)), None)
    if found is None:
        raise Wrong("no argument has an entry")
    return Val(found.data, united(args))


def _contains(args: list[Val]) -> Val:
    _exactly(args, 2)
    wanted = plain(args[1])
    same = [plain(each) for each in _list(args[0])]
    data = any(kind(each) == kind(wanted) and each == wanted for each in same)
    names = depends(*args)
    if not names or not (_sayable_list(args[0]) and args[1].sayable):
        return Val(data, names)
    return Val(data, names, say(f"({args[1].code} in {args[0].code})"))


def _format(args: list[Val]) -> Val:
    if not args:
        raise Wrong("no arguments, expected a format")
    if depends(*args) and all(each.sayable for each in args) and not args[0].names:
        parts = scalars.simple_format(shown(args[0].data), len(args) - 1)
        if parts is not None:
            return concatenated(
                [args[1 + each] if isinstance(each, int) else Val(each) for each in parts]
            )
    return Val(scalars.formatted(*map(plain, args)), depends(*args))


def _format_list(args: list[Val]) -> Val:
    lists = [each for each in args if isinstance(each.data, list)]
    sizes = {len(_list(each)) for each in lists}
    if len(sizes) != 1:
        raise Wrong("lists of several lengths" if sizes else "no list")
    (size,) = sizes
    made = [
        _format([each.data[at] if isinstance(each.data, list) else each for each in args])
        for at in range(min(size, MAX_ITEMS))
    ]
    names = united(lists)
    if names:
        return Val(made, names | united(made))
    return Val(made)


def _operator(sign: str) -> Function:
    def call(args: list[Val]) -> Val:
        _exactly(args, 2)
        return binary(sign, *args)

    return call


def _not(args: list[Val]) -> Val:
    _exactly(args, 1)
    value = args[0]
    said = say(f"(not {value.code})") if value.names and value.sayable else None
    return Val(not truth(value.data), value.names, said)


def _keys(args: list[Val]) -> Val:
    _exactly(args, 1)
    return Val([Val(each) for each in sorted(_map(args[0]))], args[0].names)


def _values(args: list[Val]) -> Val:
    _exactly(args, 1)
    found = _map(args[0])
    return Val([found[each] for each in sorted(found)], args[0].names)


def _length(args: list[Val]) -> Val:
    _exactly(args, 1)
    return Val(len(_list(args[0])), args[0].names)


def _reverse_list(args: list[Val]) -> Val:
    _exactly(args, 1)
    return Val(_list(args[0])[::-1], args[0].names)


_ENTRIES: dict[str, Function] = {
    "concat": _concat,
    "compact": _compact,
    "join": _join,
    "distinct": _distinct,
    "flatten": _flatten,
    "merge": _merge,
    "lookup": _lookup,
    "element": _element,
    "slice": _slice,
    "zipmap": _zipmap,
    "coalesce": _coalesce,
    "coalescelist": _coalesce_list,
    "contains": _contains,
    "format": _format,
    "formatlist": _format_list,
    "equal": _operator("=="),
    "notequal": _operator("!="),
    "and": _operator("&&"),
    "or": _operator("||"),
    "not": _not,
    "add": _operator("+"),
    "subtract": _operator("-"),
    "multiply": _operator("*"),
    "divide": _operator("/"),
    "modulo": _operator("%"),
    "greaterthan": _operator(">"),
    "greaterthanorequalto": _operator(">="),
    "lessthan": _operator("<"),
    "lessthanorequalto": _operator("<="),
    "keys": _keys,
    "values": _values,
    "length": _length,
    "reverselist": _reverse_list,
}
