"""Kinds and field tables: how a Node becomes a value, and the JSON Schema of what is accepted.

A kind reads one node. It raises Fault, or notes several faults and returns BAD; nothing is made
from BAD values. The same kinds give the schema, so that an editor and `lint` agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from builder.spec.model import FromEnv, Verbs
from builder.spec.node import (
    BOOL,
    FLOAT,
    INT,
    LIST,
    MAPPING,
    NAMES,
    NULL,
    TEXT,
    Node,
    check_key,
    data_of,
)
from builder.spec.render import (
    OF_ENV,
    NeedsBase,
    Renderer,
    TemplateFault,
    column_of,
    is_template,
)
from builder.spec.source import (
    Fault,
    Problems,
    TooManyErrors,
    did_you_mean,
    nearest,
    quote,
    written,
)
from builder.spec.syntax import Malformed

BAD: Any = object()
"""In place of a value whose faults were noted."""

_PROPOSED = 60  # characters of a value in a hint

TEMPLATE_SCHEMA = {"type": "string", "pattern": "\\{[{%#]"}


class Reader:
    """What reading needs: where faults go, and how texts are rendered."""

    def __init__(self, problems: Problems, renderer: Renderer, verbs: Verbs) -> None:
        self.problems = problems
        self.renderer = renderer
        self.verbs = verbs
        self.trying = False  # only whether it is taken counts: no hint is made
        self.waits = False  # for the base: what was read is not what will be

    def take(self, kind: Kind, node: Node) -> Any:
        given = self.renderer.given
        try:
            return kind.read(self, node)
        except NeedsBase:
            self.waits = True
            return BAD
        except Fault as fault:
            hidden = self.renderer.given > given and not self.renderer.hidden
            self.problems.add(self._without_values(kind, node, fault) if hidden else fault)
            return BAD

    def _without_values(self, kind: Kind, node: Node, fault: Fault) -> Fault:
        """The fault in words that hold no value that env() gave: the node is read again with what
        may be shown in its place."""
        self.renderer.hidden = True
        try:
            kind.read(self._scratch(), node)
        except Fault as found:
            return found
        except (TooManyErrors, NeedsBase):
            pass
        finally:
            self.renderer.hidden = False
        return Fault(fault.line, fault.column, OF_ENV, source=fault.source)

    def _scratch(self) -> Reader:
        return Reader(Problems(self.problems.source), self.renderer, self.verbs)

    def waiting(self, kind: Kind, node: Node, stand_in: Callable[[], Any]) -> Any:
        """Read what may name the base; `stand_in` is in its place until that is known."""
        before, earlier = self.waits, len(self.problems)
        self.waits, self.renderer.may_ask = False, True
        try:
            found = self.take(kind, node)
        finally:
            self.renderer.may_ask = False
            now, self.waits = self.waits, self.waits or before
        return stand_in() if found is BAD and now and len(self.problems) == earlier else found

    def fits(self, kind: Kind, node: Node) -> bool:
        """Whether `kind` would take the node: a hint proposes nothing that leads into an error."""
        scratch = self._scratch()
        scratch.trying = True
        try:
            return kind.read(scratch, node) is not BAD and not len(scratch.problems)
        except NeedsBase:
            return True
        except (Fault, TooManyErrors):
            return False

    def text(
        self, node: Node, expected: str = "text", parse: Callable[[str], Any] | None = None
    ) -> str:
        """A scalar's text, rendered. Whole numbers count as text, as they keep their digits. What
        `parse` refuses is not proposed in a hint."""
        if node.kind in (FLOAT, BOOL):
            hint = f"quote it: {quote(node.text)}" if _takes(parse, node.text) else None
            raise node.fault(f"{node.show()} is {NAMES[node.kind]}, expected {expected}", hint)
        if node.kind == NULL:
            hint = 'empty text: write ""' if _takes(parse, "") else None
            raise node.fault(f"nothing is given, expected {expected}", hint)
        if node.kind not in (TEXT, INT):
            raise node.fault(f"found {node.show()}, expected {expected}")
        if node.literal or not is_template(node.text):
            return node.text
        try:
            return self.renderer.render(node.text)
        except TemplateFault as fault:
            raise self.fault_in(node, fault) from None

    def value(self, node: Node, *, bare: bool = False) -> Any:
        """The value of a text that is a template (Renderer.value)."""
        try:
            return self.renderer.value(node.text, bare=bare)
        except TemplateFault as fault:
            raise self.fault_in(node, fault) from None

    def names_in(self, node: Node) -> set[str]:
        """The names that a template asks for from outside."""
        try:
            return self.renderer.names_in(node.text)
        except TemplateFault as fault:
            raise self.fault_in(node, fault) from None

    def data(self, node: Node) -> Any:
        """The plain value of a tree; a template that is one expression gives any value, others
        text. What gives nothing is left out of a list."""
        if node.kind == LIST:
            return [self.data(each) for each in node.items if not self.gives_nothing(each)]
        if node.kind == MAPPING:
            for key, _ in node.pairs:
                check_key(key)
            return {key.text: self.data(value) for key, value in node.pairs}
        return self.value(node) if made_by_template(node) else data_of(node)

    def is_list(self, node: Node) -> bool:
        """Whether it is a list, or an expression that gives one, where a text would do as well."""
        if not made_by_template(node) or not node.text.lstrip().startswith("{{"):
            return node.kind == LIST
        try:
            return isinstance(self.renderer.value(node.text), list)
        except TemplateFault:
            return False  # it is told when the text is read

    def gives_nothing(self, node: Node) -> bool:
        """Whether a template stands there that puts out nothing, or blanks."""
        if node.literal:
            return not node.text.strip()
        try:
            return made_by_template(node) and not self.renderer.render(node.text).strip()
        except (TemplateFault, NeedsBase):
            return False  # it is told, or waited for, when the item is read

    def fault_in(self, node: Node, fault: TemplateFault) -> Fault:
        """A template's fault, in the file."""
        line, column = self._place_in(node, fault)
        return Fault(line, column, fault.message, fault.hint, node.source)

    def _place_in(self, node: Node, fault: TemplateFault) -> tuple[int, int]:
        """Where in the file a template's fault is. In a literal block lines map one to one; other
        scalars are folded, there the name that the message is about is looked for."""
        lines = (node.source or self.problems.source).lines
        if node.style == "|":
            line = min(node.line + fault.line, len(lines))
            return line, column_of(lines[line - 1], fault.word)
        for word in (fault.word, ""):
            for line in range(node.line, min(node.end_line, len(lines)) + 1):
                start = node.column - 1 if line == node.line else 0
                if (word or "{") in lines[line - 1][start:]:
                    return line, column_of(lines[line - 1], word, start)
        return node.line, node.column


def made_by_template(node: Node) -> bool:
    """Whether the text of a scalar is what a template in its place puts out."""
    return node.kind == TEXT and not node.literal and is_template(node.text)


def _takes(parse: Callable[[str], Any] | None, text: str) -> bool:
    """Whether a hint may propose `text`."""
    try:
        if parse is not None:
            parse(text)
    except Malformed:
        return False
    return len(text) <= _PROPOSED


class Kind(NamedTuple):
    read: Callable[[Reader, Node], Any]
    schema: Mapping[str, Any]


class Field(NamedTuple):
    kind: Kind
    doc: str
    required: bool = False


Table = Mapping[str, Field]


def text(
    parse: Callable[[str], Any] | None = None,
    *,
    expected: str = "text",
    pattern: str | None = None,
    numbers: bool = True,
    nul: bool = False,
) -> Kind:
    """A scalar as text. `parse` makes the value of it; `pattern` is for the schema alone. Without
    `numbers` (modes) it has to be quoted if it looks like one. With `nul` it may hold NULs."""

    def read(reader: Reader, node: Node) -> Any:
        if node.kind == INT and not numbers:
            digits = node.text.removeprefix("0o").zfill(4)
            if parse is not None:
                parsed(node, digits, node.text)
            raise node.fault(
                f"{node.show()} is a number, expected {expected}", f"quote it: '{digits}'"
            )
        value = reader.text(node, expected, parse)
        if "\0" in value and not nul:
            raise node.fault(f"{quote(value)} holds a NUL character")
        return value if parse is None else parsed(node, value, value)

    def parsed(node: Node, value: str, shown: str) -> Any:
        assert parse is not None
        try:
            made = parse(value)
        except Malformed as error:
            raise node.fault(f"{quote(shown)} {error.what}", error.hint) from None
        if isinstance(value, FromEnv) and isinstance(made, str):
            return FromEnv(made, value.shown)
        return made

    plain: dict[str, Any] = {"type": ["string", "integer"] if numbers else "string"}
    if pattern is None:
        return Kind(read, plain)
    if numbers:
        whole = {"type": "integer", "minimum": 0}
        return Kind(
            read, {"anyOf": [{"type": "string", "pattern": pattern}, whole, TEMPLATE_SCHEMA]}
        )
    return Kind(read, {"anyOf": [{"type": "string", "pattern": pattern}, TEMPLATE_SCHEMA]})


def choice(*values: str) -> Kind:
    """One of the given words."""

    def parse(value: str) -> str:
        if value in values:
            return value
        near = did_you_mean(value, values)
        raise Malformed(f"is not known here, expected one of {', '.join(values)}{near}")

    schema = {"anyOf": [{"enum": list(values)}, TEMPLATE_SCHEMA]}
    return Kind(text(parse, expected=f"one of {', '.join(values)}").read, schema)


def number(least: int, most: int) -> Kind:
    """A whole number, also as text (a rendered scalar is text)."""

    def parse(value: str) -> int:
        if value.isascii() and value.isdigit() and len(value) < 20 and least <= int(value) <= most:
            return int(value)
        raise Malformed(f"is not expected here, expected a whole number from {least} to {most}")

    schema = {
        "anyOf": [{"type": "integer", "minimum": least, "maximum": most}, TEMPLATE_SCHEMA],
    }
    return Kind(text(parse, expected="a whole number").read, schema)


def boolean() -> Kind:
    """true or false, also as text (a rendered scalar is text)."""

    def parse(value: str) -> bool:
        if value not in ("true", "false"):
            raise Malformed("is not expected here, expected true or false")
        return value == "true"

    def read(reader: Reader, node: Node) -> Any:
        if node.kind == NULL:
            raise node.fault("nothing is given, expected true or false")
        if node.kind == BOOL:
            return node.text.lower() == "true"
        value = reader.text(node, "true or false", parse)
        try:
            return parse(value)
        except Malformed as error:
            raise node.fault(f"{quote(value)} {error.what}") from None

    return Kind(read, {"anyOf": [{"type": "boolean"}, TEMPLATE_SCHEMA]})


def several(text: str) -> list[str]:
    """What a text with commas or spaces was meant to list."""
    return text.replace(",", " ").split()


def list_of(
    item: Kind,
    *,
    one: bool = False,
    least: int = 0,
    expected: str = "a list",
    split: Callable[[str], list[str]] = several,
) -> Kind:
    """A list, to a tuple. With `one` a single item may stand without the list. A template that is
    one expression may give the whole list; an item of a template that puts out nothing is left
    out. `split` says, for a hint, what somebody meant who wrote a text."""

    def read(reader: Reader, node: Node) -> Any:
        items = node.items if node.kind == LIST else given(reader, node)
        if items is None:
            raise node.fault(f"found {node.show()}, expected {expected}", proposed(reader, node))
        items = [each for each in items if not reader.gives_nothing(each)]
        if len(items) < least:
            raise node.fault(f"the list is empty, expected {expected}")
        values = tuple(reader.take(item, each) for each in items)
        return BAD if any(value is BAD for value in values) else values

    def given(reader: Reader, node: Node) -> list[Node] | None:
        """The items of what is no list: those that an expression gives, or the one."""
        if made_by_template(node):
            value = reader.value(node)
            if isinstance(value, list):
                return [node.made(scalar_text(node, each)) for each in value]
            if not one:
                raise node.fault(f"the template gives {kind_name(value)}, expected {expected}")
        return [node] if one and node.kind != MAPPING else None

    def proposed(reader: Reader, node: Node) -> str | None:
        if reader.trying or node.kind in (MAPPING, NULL) or is_template(node.text):
            return None
        if len(node.text) > _PROPOSED:
            return None
        words = split(node.text)
        nodes = [Node(TEXT, node.line, node.column, word) for word in words]
        if not words or not all(reader.fits(item, each) for each in nodes):
            return None
        return f"write [{', '.join(map(written, words))}]"

    listed: dict[str, Any] = {"type": "array", "items": item.schema}
    if least:
        listed["minItems"] = least
    return Kind(read, {"anyOf": [item.schema if one else TEMPLATE_SCHEMA, listed]})


def scalar_text(node: Node, value: Any) -> str:
    """The text of an item of a list that a template at `node` gave."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (list, dict)):
        raise node.fault(f"the template gives a list that holds {kind_name(value)}, expected texts")
    return str(value).lower() if isinstance(value, bool) else str(value)


def kind_name(value: Any) -> str:
    """What a template gave, for a message."""
    kinds: dict[type, str] = {
        **{str: TEXT, bool: BOOL, int: INT, float: FLOAT, list: LIST, dict: MAPPING},
        type(None): NULL,
        FromEnv: TEXT,
    }
    return NAMES[kinds[type(value)]]


def mapping_of(
    item: Kind, check: Callable[[str], None] | None = None, expected: str = "a mapping"
) -> Kind:
    """A mapping of free keys, to a dict. `check` raises Malformed for a bad key."""

    def read(reader: Reader, node: Node) -> Any:
        if node.kind != MAPPING:
            raise node.fault(f"found {node.show()}, expected {expected}", proposed(reader, node))
        values: dict[str, Any] = {}
        for key, value in node.pairs:
            try:
                if check is not None:
                    check(key.text)
                check_key(key)
            except (Malformed, Fault) as error:
                reader.problems.add(at_key(key, error))
                values[key.text] = BAD
            else:
                values[key.text] = reader.take(item, value)
        return BAD if any(value is BAD for value in values.values()) else values

    def proposed(reader: Reader, node: Node) -> str | None:
        from builder.spec.words import as_mapping, flow

        made = None if reader.trying else as_mapping(node)
        shown = flow(made) if made and reader.fits(kind, made) else None
        return f"write {shown}" if shown else None

    kind = Kind(read, {"type": "object", "additionalProperties": item.schema})
    return kind


def data(check: Callable[[str], None]) -> Kind:
    """Further variables: names to data, the texts in it rendered."""

    def read(reader: Reader, node: Node) -> Any:
        values, right = read_data(reader.problems, node, check, reader.data)
        return values if right else BAD

    return Kind(read, {"type": "object", "additionalProperties": True})


def read_data(
    problems: Problems,
    node: Node,
    check: Callable[[str], None],
    value_of: Callable[[Node], Any] = data_of,
) -> tuple[dict[str, Any], bool]:
    """The mapping, and whether all of it was right. A faulty value is kept as its text: the name
    is known, so that its uses are not errors as well."""
    if node.kind != MAPPING:
        problems.add(node.fault(f"found {node.show()}, expected a mapping of names to values"))
        return {}, False
    values: dict[str, Any] = {}
    right = True
    for key, value in node.pairs:
        try:
            check(key.text)
            check_key(key)
            values[key.text] = value_of(value)
        except (Malformed, Fault) as error:
            values[key.text] = value.text
            right = False
            problems.add(at_key(key, error))
    return values, right


def at_key(key: Node, error: Malformed | Fault) -> Fault:
    if isinstance(error, Fault):
        return error
    return key.fault(f"{quote(key.text)} {error.what}", error.hint)


def read_table(
    reader: Reader, node: Node, table: Table, what: str, foreign: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """The fields that are given, by name; None after faults were noted. `what` names the mapping
    in messages. `foreign` says to whom keys belong that are not in this table."""
    if node.kind != MAPPING:
        wanted = f"a mapping of {what}" if what.startswith("'") else what
        raise node.fault(f"found {node.show()}, expected {wanted}")
    values: dict[str, Any] = {}
    right = True
    given = {key.text for key, _ in node.pairs}
    free = {name: field.kind for name, field in table.items() if name not in given}
    for key, value in node.pairs:
        field = table.get(key.text)
        if field is None:
            known = f"known here: {', '.join(table)}"
            owner = (foreign or {}).get(key.text)
            reader.problems.add(_unknown(reader, key, value, free, what, known, owner))
            right = False
            continue
        got = values[key.text] = reader.take(field.kind, value)
        right = right and got is not BAD
    for name in free:
        if table[name].required:
            reader.problems.add(node.fault(f"missing key {name!r} in {what}", table[name].doc))
            right = False
    return values if right else None


def _unknown(
    reader: Reader,
    key: Node,
    value: Node,
    free: dict[str, Kind],
    what: str,
    known: str,
    owner: str | None,
) -> Fault:
    """What is wrong with a key of no table; the one that was meant is taken out of `free`, those
    that are not given. It would be given once only, and would take the value."""
    from builder.spec.words import elsewhere, renamed

    if reader.trying:
        return key.fault(f"unknown key {quote(key.text)} in {what}")
    if found := renamed(reader, key, value, what, free):
        return found
    if owner is not None:
        hint = "a step `run` that does the same may have them" if key.text == "mounts" else None
        return key.fault(f"key {key.text!r} belongs to {owner}, not to {what}", hint)
    if found := elsewhere(reader, key, value, what):
        return found
    meant = nearest(key.text, list(free), lambda name: reader.fits(free[name], value))
    if meant is None and value.kind in (LIST, MAPPING):  # it may be wrong further in
        shaped = [name for name in free if _same_shape(free[name].schema, value.kind)]
        meant = nearest(key.text, shaped, alike=0.8)
    if meant is not None:
        del free[meant]
    near = f", did you mean {meant!r}?" if meant else ""
    return key.fault(f"unknown key {quote(key.text)} in {what}{near}", None if meant else known)


def _same_shape(schema: Mapping[str, Any], kind: str) -> bool:
    """Whether a list or a mapping may stand there, whatever it holds."""
    shape = "array" if kind == LIST else "object"
    return schema.get("type") == shape or any(
        _same_shape(each, kind) for each in schema.get("anyOf", ())
    )


def table_schema(table: Table, required: Sequence[str] = ()) -> dict[str, Any]:
    """The object schema of a table."""
    needed = [name for name, field in table.items() if field.required or name in required]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            name: {"description": field.doc, **field.kind.schema} for name, field in table.items()
        },
        "additionalProperties": False,
    }
    if needed:
        schema["required"] = needed
    return schema
