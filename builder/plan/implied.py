"""Implied steps, of no verb: what a spec asks for otherwise, and what stands in a step's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Self

from builder.plan.step import CommandStep, ConfigStep, FileStep
from builder.spec.model import BaseRef, ConfigChange, Place

if TYPE_CHECKING:
    from builder.plan.changes import Changes
    from builder.plan.materials import Materials


class _Nothing(NamedTuple):
    place: Place
    name: str
    verb: str
    origins: tuple[BaseRef, ...] = ()


class _InPlace(_Nothing):
    __slots__ = ()
    stands_in = True

    def within(self, rename: Callable[[BaseRef], BaseRef]) -> Self:
        return self._replace(origins=tuple(map(rename, self.origins)))


class Nothing(_InPlace, FileStep):
    """A file step that adds nothing to the working directory, which is made for it. It stands for
    config's working_dir, and for a step that names the base until that is known."""

    __slots__ = ()
    dest = "."

    def rooted(self, folder: str) -> Self:
        return self

    def changes(self, given: Materials) -> Changes:
        from builder.plan.changes import Draft

        return Draft(given.ground, None).done()


class NoCommand(_InPlace, CommandStep):
    """In the place of a command step that names the base."""

    __slots__ = ()

    def title(self) -> str:
        return self.name


class NoConfig(_InPlace, ConfigStep):
    """In the place of a config step that names the base."""

    __slots__ = ()
    change = ConfigChange()

    def title(self) -> str:
        return self.name
