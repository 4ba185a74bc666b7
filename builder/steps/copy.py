"""`copy`: files of the context or of another image, by Docker's COPY rules (docs/docker.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import BuilderError, SpecError
from builder.plan.step import FileStep
from builder.spec.model import BaseRef, ImageSpec, Place, shown

if TYPE_CHECKING:
    from builder.plan.changes import Changes
    from builder.plan.context import Context, Matched, Scanned
    from builder.plan.materials import Materials
    from builder.plan.origin import SourceImage
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node


_GLOB = frozenset("*?[")


class _Copy(NamedTuple):
    place: Place
    name: str | None
    sources: tuple[str, ...]  # below the context, globs allowed
    dest: str
    exclude: tuple[str, ...] = ()  # .gitignore rules
    owner: str | None = None  # user[:group], names or numbers; None: 0:0 (or preserved)
    mode: str | None = None  # octal text or symbolic text; None: 0644 / 0755
    preserve: tuple[str, ...] = ()  # of mode, owner, mtime, xattrs
    times: str | None = None  # content: told by what a file holds; None: the clock's
    origin: BaseRef | None = None  # the image that they are taken from; None: the context
    optional: tuple[str, ...] = ()  # further sources, which may be missing
    rules: str | None = None  # docker: what else is as COPY has it


class Copy(_Copy, FileStep):
    __slots__ = ()
    verb = "copy"
    doc = "Copy files of the context, or of another image."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.base import ORIGIN
        from builder.spec.fields import Field, choice, list_of, text
        from builder.spec.kinds import (
            MODE_FIELD,
            NAME_FIELD,
            OWNER_FIELD,
            SOURCE,
            TARGET,
            TIMES_FIELD,
            filled,
        )

        return {
            "copy": Field(
                list_of(SOURCE, one=True, least=1, expected="a path or a list of paths"),
                "Files, directories (their contents) or globs, below the context.",
                required=True,
            ),
            "from": Field(
                ORIGIN, "The image to copy from: stage:NAME, image:NAME, oci:DIR, a reference ..."
            ),
            "optional": Field(
                list_of(SOURCE, one=True, expected="a path or a list of paths"),
                "Further sources, which may be missing or left out.",
            ),
            "dest": Field(TARGET, "Where to; a slash at its end says directory.", required=True),
            "name": NAME_FIELD,
            "exclude": Field(
                list_of(text(filled), one=True, expected="a pattern or a list of patterns"),
                "Patterns by .gitignore rules, relative to each source.",
            ),
            "owner": OWNER_FIELD,
            "mode": MODE_FIELD,
            "preserve": Field(
                list_of(choice("mode", "owner", "mtime", "xattrs"), one=True),
                "What to take over from the source files.",
            ),
            "times": TIMES_FIELD,
            "rules": Field(
                choice("docker"),
                "docker: modes, times, existing directories and globs as Docker's COPY has them.",
            ),
        }

    @classmethod
    def suited(cls, table: Table, node: Node) -> Table:
        if node.get("from") is None:
            return table
        from builder.spec.fields import choice, list_of, text
        from builder.spec.syntax import parse_image_source

        source = text(parse_image_source, expected="a path in the image")
        preserve = list_of(choice("mtime"), one=True)
        return {
            **table,
            "copy": table["copy"]._replace(
                kind=list_of(source, one=True, least=1, expected="a path or a list of paths")
            ),
            "optional": table["optional"]._replace(
                kind=list_of(source, one=True, expected="a path or a list of paths")
            ),
            "preserve": table["preserve"]._replace(kind=preserve),
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Copy:
        from builder.spec import syntax
        from builder.spec.kinds import place
        from builder.spec.source import quote, written

        sources, optional, dest = given["copy"], given.get("optional", ()), given["dest"]
        docker = "rules" in given
        if not dest.endswith("/") and dest != "/":
            count = len(sources) + len(optional)
            several = f"{count} sources need" if count > 1 else None
            found = [] if docker else list(filter(syntax.is_glob, sources))
            globs = (f"glob {quote(each)} needs" for each in found)
            if need := several or next(globs, None):
                at = node.get("dest") or node
                raise at.fault(
                    f"{need} a directory, {quote(dest)} is not one", f"write {written(dest + '/')}"
                )
        preserve = given.get("preserve", ())
        for each in ("preserve", "times", "optional") if docker else ():
            if each in given:
                at = node.get(each) or node
                raise at.fault(f"{each!r} is given, which 'rules: docker' says already")
        if docker:
            preserve = ("mtime",) if "mode" in given or "from" in given else ("mode", "mtime")
        for each in ("mode", "owner"):
            if each in preserve and each in given:
                at = node.get(each) or node
                raise at.fault(f"{each!r} is given and also preserved, expected one of the two")
        if "times" in given and "mtime" in preserve:
            at = node.get("times") or node
            raise at.fault("'times' is given and 'mtime' also preserved, expected one of the two")
        return cls(
            place(reader, node.get("copy") or node),
            given.get("name"),
            sources,
            dest,
            given.get("exclude", ()),
            given.get("owner"),
            given.get("mode"),
            tuple(sorted(set(preserve))),
            given.get("times"),
            given.get("from"),
            optional,
            given.get("rules"),
        )

    @property
    def origins(self) -> tuple[BaseRef, ...]:  # type: ignore[override]
        return (self.origin,) if self.origin else ()

    def within(self, rename: Callable[[BaseRef], BaseRef]) -> Copy:
        return self._replace(origin=rename(self.origin)) if self.origin else self

    def title(self) -> str:
        told = f"copy {' '.join(map(shown, (*self.sources, *self.optional)))}"
        return f"{told} from {self.origin}" if self.origin else told

    @property
    def hashes(self) -> bool:  # type: ignore[override]
        return self.origin is None

    def without_sources(self) -> Copy:
        if self.origin:
            return self._replace(origin=None)
        several = len(self.sources) + len(self.optional)
        return self._replace(sources=("",) * several, optional=())

    @property
    def may_come(self) -> tuple[str, ...]:
        return () if self.origin else self.optional

    def scan(self, context: Context) -> Scanned:
        if self.origin:
            return []
        return context.copied(
            self.sources,
            self.exclude,
            full=bool(self.preserve),
            optional=self.optional,
            docker=self.rules is not None,
        )

    def look_into(self, origins: Sequence[SourceImage]) -> None:
        from builder.steps.copied import taken

        for origin in origins:
            for found in taken(self, origin):
                origin.digest(origin.stored(found))

    def lacks(self, context: Context) -> Iterator[SpecError]:
        from builder.plan.context import MAY_BE_MISSING

        for text in self.sources if self.origin is None else ():
            if self.rules and set(text) & _GLOB:
                continue  # by Docker's rules it may find nothing
            for error in self.fault_of(lambda text=text: _needed(context, text)):  # type: ignore[misc]
                if self.rules and error.hint == MAY_BE_MISSING:
                    error.hint = None  # Docker's COPY has no `optional`
                yield error
        for text in self.may_come:
            yield from self.fault_of(lambda text=text: _found(context, text))  # type: ignore[misc]

    def advice(self, spec: ImageSpec, context: Context) -> Iterator[SpecError]:
        from builder.spec.advice import served

        if not self.times and "mtime" not in self.preserve:
            yield from served(self.place, self.dest)
        if self.origin is None:
            yield from self._takes_spec(spec, context)

    def _takes_spec(self, spec: ImageSpec, context: Context) -> Iterator[SpecError]:
        """Whether it brings the spec itself: each change of that would change the layer."""
        import os

        file = os.path.realpath(spec.file)
        try:
            found = [source for text in self.sources for source in _needed(context, text)]
            found += [source for text in self.may_come for source in _found(context, text)]
            roots = [os.path.join(context.root, each.path).rstrip("/") for each in found]
            above = next((each for each in roots if file.startswith(each + "/")), None)
            taken = above and any(file in tree.paths() for _, tree in self.scan(context))
        except BuilderError:
            return  # an error already
        if above and taken:
            from builder.spec.files import error_at
            from builder.spec.source import written

            folder = os.path.relpath(os.path.dirname(file), above)
            yield error_at(
                self.place,
                f"the copy takes {spec.file!r} along: each change of the spec changes the layer",
                f"write exclude: [{written(folder + '/')}], or a line in .dockerignore",
            )

    def changes(self, given: Materials) -> Changes:
        if given.origins:
            from builder.steps.copied import copy_from

            made = copy_from(self, given.origins[0], given.ground)
        else:
            from builder.steps.placing import copy

            made = copy(self, given)
        return made._replace(timeless=True) if self.rules else made


def _needed(context: Context, text: str) -> list[Matched]:
    """What a source is that has to be there."""
    from builder.plan.context import MAY_BE_MISSING, Absent

    try:
        return context.find(text)
    except Absent as error:
        error.hint = error.hint or MAY_BE_MISSING
        raise


def _found(context: Context, text: str) -> list[Matched]:
    """What is there of an optional source."""
    from builder.plan.context import Absent

    try:
        return context.find(text)
    except Absent:
        return []
