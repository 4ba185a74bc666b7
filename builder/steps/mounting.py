"""What verbs share whose steps have `mounts`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from builder.plan.step import CommandStep, FileStep

if TYPE_CHECKING:
    from builder.errors import SpecError
    from builder.plan.context import Context, Scanned
    from builder.plan.origin import SourceImage
    from builder.spec.model import BaseRef
    from builder.spec.mounts import Mount


class MountingStep(CommandStep):
    """A command step that sees what its verb needs, and what the spec says."""

    __slots__ = ()
    given: tuple[Mount, ...]
    """What the spec's `mounts` says."""

    def own(self) -> tuple[Mount, ...]:
        """What the verb needs; files of the context, not of other images."""
        return ()

    @property
    def mounts(self) -> tuple[Mount, ...]:  # type: ignore[override]
        return (*self.own(), *self.given)

    @property
    def origins(self) -> tuple[BaseRef, ...]:  # type: ignore[override]
        if not self.given:
            return ()
        from builder.spec.mounts import origins_of

        return origins_of(self.given)

    def _with(self, given: tuple[Mount, ...]) -> Self:
        made: Self = cast(Any, self)._replace(given=given)
        return made

    def within(self, rename: Callable[[BaseRef], BaseRef]) -> Self:
        if not self.given:
            return self
        from builder.spec.mounts import renamed

        return self._with(tuple(renamed(each, rename) for each in self.given))

    def without_sources(self) -> Self:
        if not self.given:
            return self
        from builder.steps.bound import without_sources

        return self._with(without_sources(self.given))

    def copies(self) -> tuple[FileStep, ...]:
        if not self.mounts:
            return ()
        from builder.steps.bound import copies

        return copies(self.mounts)

    @property
    def hashes(self) -> bool:  # type: ignore[override]
        return any(each.hashes for each in self.copies())

    def scan(self, context: Context) -> Scanned:
        from builder.plan.mounts import at

        found: Scanned = []
        for copy in self.copies():
            with at(copy.place):
                found = [*found, *copy.scan(context)]
        return found

    def look_into(self, origins: Sequence[SourceImage]) -> None:
        from builder.spec.mounts import Bind, origin_of

        copies, left = iter(self.copies()), iter(origins)
        for mount in self.mounts:
            image = [next(left)] if origin_of(mount) else []
            copy = next(copies) if image or isinstance(mount, Bind) else None
            if copy and isinstance(mount, Bind):
                copy.look_into(image)

    def lacks(self, context: Context) -> Iterator[SpecError]:
        from builder.plan.context import MAY_BE_MISSING

        for copy in self.copies():
            for error in copy.lacks(context):
                if error.hint == MAY_BE_MISSING:
                    error.hint = None  # a bind has no `optional`
                yield error
