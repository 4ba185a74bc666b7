"""Arguments: ARG before the first FROM and in stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.dockerfile.expand import Bound, Value, known
from builder.dockerfile.instructions import Instruction
from builder.dockerfile.nodes import template
from builder.dockerfile.scopes import PLATFORM, Variables, of_platforms
from builder.dockerfile.values import Values
from builder.oci.image import Platform

if TYPE_CHECKING:
    from builder.dockerfile.convert import Part


class Arguments(Values):
    """`heads` are the comments above variables, `arguments` the ARGs and their values."""

    def __init__(self, platform: Platform | None, escape: str, variables: Variables) -> None:
        super().__init__(escape, variables)
        self.globals = of_platforms(platform)
        self.heads: dict[str, list[str]] = {}
        self.arguments: dict[str, str] = {}
        self.parts: list[Part] = []

    def before_stages(self, found: Instruction) -> None:
        for pair in found.pairs:
            default = self.value(pair.value, self.globals.get) if pair.value else None
            bound = self.variables.bind(pair.name.text, default, {})
            self._told(pair.name.text, bound)
            if bound:
                self.globals[pair.name.text] = bound
            elif pair.name.text not in PLATFORM:
                self.globals.pop(pair.name.text, None)
        self._note(found)

    def _told(self, name: str, bound: Bound | None) -> None:
        self.arguments[name] = (known(bound.value) if bound else None) or ""

    def _note(self, found: Instruction) -> None:
        """Comments above an ARG go above its variable."""
        if found.line.comments:
            self.heads.setdefault(found.pairs[0].name.text, []).extend(found.line.comments)

    def argument(self, part: Part, found: Instruction) -> None:
        for pair in found.pairs:
            name = pair.name.text
            if pair.value is not None:
                default = self.value(pair.value, part.scope.lookup)
                if self._has_another(name, default):
                    bound: Bound | None = Bound(default)
                    self.fixed.append(
                        f"ARG {name} is {template(default)!r} here, whatever --set says"
                    )
                else:
                    bound = self.variables.bind(name, default, part.own)
            elif name in self.globals:
                bound = self.globals[name]
            elif name in part.scope.arguments:
                continue  # it is that already
            else:
                bound = self.variables.bind(name, None, part.own)
            self._told(name, bound)
            if bound:
                part.scope.argument(name, bound)
            part.declared.add(name)
        self._note(found)

    def _has_another(self, name: str, default: Value) -> bool:
        """Whether the ARG of this name before the first FROM has another default: the variable is
        that one's, which FROM may name."""
        if name in self.variables.defaults:
            return False  # which counts in place of all of them
        there = self.variables.top.get(name)
        return name in self.globals and there not in (None, template(default))

    def settle(self, target: Part) -> None:
        """Variables at the top have the defaults of the image, stages with others their own."""
        top = self.variables.top
        for name, default in target.own.items():
            for part in self.parts:
                if part is not target and name in part.declared:
                    part.own.setdefault(name, top[name])
            top[name] = default
            self.variables.unset.discard(name)
        target.own = {}
