"""HCL, as far as bake files have it: blocks, attributes, expressions and templates, with places.

By HCL's native syntax specification. Every bound holds before the next level is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn

from builder.bake.ast import (
    Attribute,
    Binary,
    Block,
    Body,
    Call,
    Choice,
    For,
    Index,
    ListOf,
    Literal,
    ObjectOf,
    Splat,
    Unary,
    Variable,
)
from builder.bake.text import Text
from builder.spec.source import Source, quote

MAX_DEPTH = 50  # of brackets, templates and choices within each other
MAX_CHAIN = 100  # operators, or indices, beside each other

_SPACE = re.compile(r"(?:[ \t\r]|#[^\n]*|//[^\n]*|/\*.*?\*/)+", re.S)
_NAME = re.compile(r"[^\W\d][\w-]*")
_NUMBER = re.compile(r"\d{1,300}(?:\.\d{1,300})?(?:[eE][+-]?\d{1,3})?(?!\w|\.\d)")
_LEVELS = (("||",), ("&&",), ("==", "!="), (">=", "<=", ">", "<"), ("+", "-"), ("*", "/", "%"))
_WORDS = {"true": True, "false": False, "null": None}


def parse_file(source: Source) -> Body:
    """Raises Fault."""
    parser = Parser(Text(source, source.text))
    return parser.body(None)


class Parser:
    def __init__(self, text: Text) -> None:
        self.whole = text
        self.text = text.text
        self.at = 0
        self.depth = 0
        self.lines = True  # whether the end of a line ends something

    # -- words -------------------------------------------------------------------------------------

    def fail(self, message: str, hint: str | None = None, at: int | None = None) -> NoReturn:
        raise self.whole.fault(self.at if at is None else at, message, hint)

    def skip(self) -> None:
        while True:
            if found := _SPACE.match(self.text, self.at):
                self.at = found.end()
            if self.text.startswith("/*", self.at):
                self.fail("the comment has no end", "end it with */")
            if self.lines or not self.text.startswith("\n", self.at):
                return
            self.at += 1

    def blank(self) -> None:
        """Skip spaces and empty lines."""
        kept, self.lines = self.lines, False
        self.skip()
        self.lines = kept

    def peek(self, sign: str) -> bool:
        self.skip()
        return self.text.startswith(sign, self.at)

    def take(self, sign: str) -> bool:
        if not self.peek(sign):
            return False
        self.at += len(sign)
        return True

    def need(self, sign: str, what: str) -> None:
        if not self.take(sign):
            self.fail(f"{self.found()}, expected {quote(sign)} {what}")

    def found(self) -> str:
        """What stands here, for a message."""
        self.skip()
        if self.at >= len(self.text):
            return "the file ends here"
        if self.text[self.at] == "\n":
            return "the line ends here"
        word = _NAME.match(self.text, self.at)
        return f"{quote(word[0] if word else self.text[self.at])} stands here"

    def name(self) -> str | None:
        self.skip()
        found = _NAME.match(self.text, self.at)
        if not found:
            return None
        self.at = found.end()
        return found[0]

    def need_name(self, what: str) -> str:
        name = self.name()
        if name is None:
            self.fail(f"{self.found()}, expected {what}")
        return name

    def deeper(self, at: int) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"more than {MAX_DEPTH} levels within each other", None, at)

    def within(self, read: Callable[[], Any], *, lines: bool) -> Any:
        """What `read` gives, one level deeper; `lines`: whether ends of lines count there."""
        self.deeper(self.at)
        kept, self.lines = self.lines, lines
        found = read()
        self.lines = kept
        self.depth -= 1
        return found

    # -- blocks ------------------------------------------------------------------------------------

    def body(self, end: str | None) -> Body:
        """Up to `end`, or to the end of the file."""
        attributes: dict[str, Attribute] = {}
        blocks: list[Block] = []
        while True:
            self.blank()
            if end and self.take(end):
                return Body(attributes, tuple(blocks))
            if self.at >= len(self.text):
                if end:
                    self.fail("the file ends within a block", f"write {end} behind it")
                return Body(attributes, tuple(blocks))
            at = self.at
            name = self.need_name("an attribute or a block, such as target")
            if self.peek("=") and not self.peek("=="):
                self.at += 1
                value = self.expression()
                if name in attributes:
                    self.fail(f"{quote(name)} is given twice", "keep one of them", at)
                attributes[name] = Attribute(at, name, value)
                self._end_of_line()
            else:
                blocks.append(self._block(at, name))

    def _block(self, at: int, kind: str) -> Block:
        labels = []
        while not self.take("{"):
            if self.peek('"'):
                here = self.at
                label = self.expression_of_text()
                if not isinstance(label, Literal) or not isinstance(label.value, str):
                    self.fail("a name is a template, expected plain text", None, here)
                labels.append(label.value)
            elif (name := self.name()) is not None:
                labels.append(name)
            else:
                self.fail(
                    f"{self.found()}, expected {{ or a name behind {quote(kind)}",
                    f'an attribute is {kind} = ..., a block {kind} "name" {{...}}',
                )
        body = self.within(lambda: self.body("}"), lines=True)
        self._end_of_line()
        return Block(at, kind, tuple(labels), body)

    def _end_of_line(self) -> None:
        self.skip()
        if self.at < len(self.text) and self.text[self.at] not in "\n}":
            self.fail(f"{self.found()}, expected the end of the line")

    # -- expressions -------------------------------------------------------------------------------

    def expression(self) -> Any:
        self.deeper(self.at)
        self.skip()
        at = self.at
        found = self._operators(0)
        if self.take("?"):
            self.blank_before(":")
            then = self.expression()
            self.blank_before(":")
            self.need(":", "of a choice")
            found = Choice(at, found, then, self.expression())
        self.depth -= 1
        return found

    def blank_before(self, sign: str) -> None:
        """A choice may go on in the next line."""
        kept = self.at
        self.blank()
        if not self.text.startswith(sign, self.at) and self.lines:
            self.at = kept

    def _operators(self, level: int) -> Any:
        if level == len(_LEVELS):
            return self._unary()
        left = self._operators(level + 1)
        count = 0
        while True:
            self.skip()
            sign = next((each for each in _LEVELS[level] if self.peek(each)), None)
            if sign is None:
                return left
            at = self.at
            self.at += len(sign)
            count += 1
            if count > MAX_CHAIN:
                self.fail(f"more than {MAX_CHAIN} operators beside each other", None, at)
            left = Binary(at, sign, left, self._operators(level + 1))

    def _unary(self) -> Any:
        self.skip()
        at = self.at
        for sign in "-!":
            if self.peek(sign) and not self.peek("!="):
                self.at += 1
                return Unary(at, sign, self.within(self._unary, lines=self.lines))
        return self._indexed(self._term())

    def _indexed(self, found: Any) -> Any:
        count = 0
        while True:
            at = self.at
            count += 1
            if count > MAX_CHAIN:
                self.fail(f"more than {MAX_CHAIN} indices beside each other")
            if self.text.startswith("[*]", at):
                self.at += 3
                return Splat(at, found, self._indexed(Variable(at, "*")))
            if self.text.startswith("[", at):
                self.at += 1
                index = self.within(self._index, lines=False)
                found = Index(at, found, index)
            elif self.text.startswith(".*", at):
                self.at += 2
                return Splat(at, found, self._names(Variable(at, "*")))
            elif self.text.startswith(".", at) and not self.text.startswith("...", at):
                found = self._name_of(found)
            else:
                return found

    def _index(self) -> Any:
        index = self.expression()
        self.need("]", "behind an index")
        return index

    def _names(self, found: Any) -> Any:
        for _ in range(MAX_CHAIN):
            if not self.text.startswith(".", self.at):
                break
            found = self._name_of(found)
        return found

    def _name_of(self, found: Any) -> Any:
        at = self.at
        self.at += 1
        if number := re.compile(r"\d{1,9}").match(self.text, self.at):
            self.at = number.end()
            return Index(at, found, Literal(at, int(number[0])))
        return Index(at, found, Literal(at, self.need_name("a name behind the point")))

    def _term(self) -> Any:
        at = self.at
        char = self.text[at : at + 1]
        if char == '"':
            return self.expression_of_text()
        if self.text.startswith("<<", at):
            return self._heredoc()
        if char == "(":
            self.at += 1
            return self.within(self._bracketed, lines=False)
        if char == "[":
            self.at += 1
            return self.within(lambda: self._list(at), lines=False)
        if char == "{":
            self.at += 1
            return self.within(lambda: self._object(at), lines=False)
        if number := _NUMBER.match(self.text, at):
            self.at = number.end()
            value = Decimal(number[0])
            return Literal(at, int(value) if value == value.to_integral_value() else value)
        name = self.name()
        if name is None:
            self.fail(f"{self.found()}, expected a value")
        if self.text.startswith("::", self.at):
            self.fail(f"{quote(name)} has a namespace, which bake does not know", None, at)
        if self.take("("):
            return self.within(lambda: self._call(at, name), lines=False)
        return Literal(at, _WORDS[name]) if name in _WORDS else Variable(at, name)

    def _bracketed(self) -> Any:
        found = self.expression()
        self.need(")", "that closes the bracket")
        return found

    def _call(self, at: int, name: str) -> Any:
        args = []
        spread = False
        while not self.take(")"):
            args.append(self.expression())
            spread = self.take("...")
            if not self.peek(")") and (spread or not self.take(",")):
                self.fail(f"{self.found()}, expected ',' or ')' behind an argument of {name}")
        return Call(at, name, tuple(args), spread)

    def _list(self, at: int) -> Any:
        if (made := self._for(at, "]")) is not None:
            return made
        items = []
        while not self.take("]"):
            items.append(self.expression())
            if not self.peek("]") and not self.take(","):
                self.fail(f"{self.found()}, expected ',' or ']' behind an entry of a list")
        return ListOf(at, tuple(items))

    def _object(self, at: int) -> Any:
        if (made := self._for(at, "}")) is not None:
            return made
        pairs = []
        while not self.take("}"):
            key = self._key()
            if not (self.take("=") or self.take(":")):
                self.fail(f"{self.found()}, expected '=' behind a key")
            self.lines = True
            value = self.expression()
            self.skip()
            ended = self.text.startswith("\n", self.at) or self.take(",")
            self.lines = False
            pairs.append((key, value))
            if not ended and not self.peek("}"):
                self.fail(f"{self.found()}, expected ',', '}}' or a new line behind a value")
        return ObjectOf(at, tuple(pairs))

    def _key(self) -> Any:
        self.skip()
        at = self.at
        found = _NAME.match(self.text, at)
        if found and re.compile(r"\s*[=:](?!=)").match(self.text, found.end()):
            self.at = found.end()
            return Literal(at, found[0])
        return self.expression()

    def _for(self, at: int, end: str) -> For | None:
        start = self.at
        if self.name() != "for" or self.peek("=") or self.peek(":"):
            self.at = start
            return None
        key, name, over = self.for_names()
        self.need(":", "behind what is looped over")
        result = self.expression()
        key_of, grouped = None, False
        if end == "}":
            self.need("=>", "between key and value")
            key_of, result = result, self.expression()
            grouped = self.take("...")
        condition = None
        here = self.at
        word = self.name()
        if word == "if":
            condition = self.expression()
        elif word is not None:
            self.at = here
        self.need(end, "at the end of for")
        return For(at, key, name, over, key_of, result, condition, grouped)

    def for_names(self) -> tuple[str | None, str, Any]:
        name = self.need_name("a name behind for")
        key = None
        if self.take(","):
            key, name = name, self.need_name("a second name")
        if self.name() != "in":
            self.fail(f"{self.found()}, expected 'in' behind the names of for")
        return key, name, self.expression()

    # -- texts -------------------------------------------------------------------------------------

    def expression_of_text(self) -> Any:
        from builder.bake.templates import quoted_text

        return self.within(lambda: quoted_text(self), lines=False)

    def _heredoc(self) -> Any:
        from builder.bake.templates import heredoc

        return self.within(lambda: heredoc(self), lines=False)
