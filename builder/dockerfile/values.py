"""Values: the words of instructions as texts and templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.dockerfile.expand import Bad, Bound, Fuel, NotSaid, Ref, Scope, Value, expanded, known
from builder.dockerfile.nodes import template
from builder.dockerfile.scopes import Variables
from builder.dockerfile.words import Word
from builder.spec.source import quote

if TYPE_CHECKING:
    from builder.dockerfile.convert import Part


class Values:
    """`fixed`: what was said with the defaults of variables alone."""

    def __init__(self, escape: str, variables: Variables) -> None:
        self.escape = escape
        self.variables = variables
        self.fuel = Fuel()
        self.fixed: list[str] = []

    def value(self, word: Word, scope: Scope, *, quotes: bool = True) -> Value:
        """Raises Bad at an offset of the instruction."""
        try:
            return expanded(word.text, self.escape, scope, quotes=quotes, fuel=self.fuel)
        except Bad as bad:
            raise Bad(word.at + bad.at, bad.message, bad.hint) from None
        except NotSaid:
            return self._by_default(word, scope, quotes=quotes)

    def _by_default(self, word: Word, scope: Scope, *, quotes: bool) -> Value:
        """With the variables' defaults, where no template says the substitution."""

        try:
            usual = self.usual(scope)
            made = expanded(word.text, self.escape, usual, quotes=quotes, fuel=self.fuel)
        except NotSaid:
            raise Bad(
                word.at, f"{quote(word.text)} cannot be said before the base is known",
                "write a pattern with one * at its end",
            ) from None  # fmt: skip
        self.fixed.append(f"{word.text} is {known(made)!r} here, whatever the variable's value")
        return made

    def usual(self, scope: Scope) -> Scope:
        """With what variables are where nobody gives them a value."""

        def find(name: str) -> Bound | None:
            bound = scope(name)
            if bound is None:
                return None
            parts: list[str] = []
            for each in bound.value:
                if isinstance(each, Ref) and each.expression in self.variables.unset:
                    return None
                text = self.variables.usual(each.expression) if isinstance(each, Ref) else each
                if text is None:
                    return bound
                parts.append(text)
            return Bound(("".join(parts),))

        return find

    def by_default(self, word: Word, scope: Scope) -> str:
        """The text where nobody gives variables a value; what is not known stays a template."""
        return template(self.value(word, self.usual(scope)))

    def text_of(self, word: Word, part: Part) -> str:
        """A word as a template."""
        return template(self.value(word, part.scope.lookup))
