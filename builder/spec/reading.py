"""Reading: one spec file to the specs of its images, one without a matrix."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from builder.errors import UsageError
from builder.oci.image import Platform, host_platform
from builder.spec import syntax
from builder.spec.compose import SpecFiles, without_free
from builder.spec.conditions import read_when
from builder.spec.expand import Steps
from builder.spec.fields import (
    BAD,
    Kind,
    Reader,
    Table,
    at_key,
    made_by_template,
    read_table,
)
from builder.spec.language import SPEC, STAGE
from builder.spec.matrix import Row, axes_of, read_rows, row_text
from builder.spec.model import BaseRef, ConfigChange, ImageSpec, Place, Skipped, Verbs
from builder.spec.node import INT, LIST, MAPPING, TEXT, Node, parse_yaml
from builder.spec.render import SECONDS, SPEC_FUEL, NeedsBase, Renderer, plain
from builder.spec.source import Fault, Problems, Source, quote
from builder.spec.syntax import Malformed
from builder.spec.variables import Variables

ROW_FUEL = 40_000  # what each row of a matrix adds to SPEC_FUEL
ROW_SECONDS = 0.02


class Given(NamedTuple):
    """What is given to a spec from outside; all texts in it are data."""

    verbs: Verbs
    environ: Mapping[str, str]
    shared: Mapping[str, Any]  # variables of vars files
    sets: Mapping[str, str]  # --set, for all images or as IMAGE.NAME
    platform: Platform  # of specs that name none
    base: Mapping[str, Any] | None = None  # what the base's config says, where that is known
    row: int | None = None  # of the matrix: this one alone
    stage: str = ""  # whose base that is; "": the image's own


def own_sets(sets: Mapping[str, str], *images: str) -> dict[str, str]:
    """Of `--set`: what is for all images, and over it what is for the image of these names."""
    found = {name: text for name, text in sets.items() if "." not in name}
    for image in images:
        found.update(
            (name.rpartition(".")[2], text)
            for name, text in sets.items()
            if name.rpartition(".")[0] == image
        )
    return found


class Reading:
    """One reading of one file. Variables are the file's own, those of vars files over them, `--set`
    over those of both that they name. With `rendering` it makes `documents` as well: each image's
    spec as plain data after Jinja, its `vars` as they are in force."""

    def __init__(
        self,
        source: Source,
        given: Given,
        *,
        rendering: bool = False,
        node: Node | None = None,
        stem: str = "",
    ) -> None:
        """`node`: the spec as a tree, where `source` is no YAML; `stem`: what the image is called
        where it says no name, else as the file."""
        self.problems = Problems(source)
        self.files = SpecFiles(source.file, self.problems)
        self.documents: list[dict[str, Any]] = []
        self._given = given
        self._rendering = rendering
        self._renderer = Renderer({}, given.environ)
        self._reader = Reader(self.problems, self._renderer, given.verbs)
        self._parsed = node
        self._stem = stem or os.path.basename(source.file).rpartition(".")[0]
        self._above = (os.path.realpath(source.file),)
        self._node = Node(MAPPING, 1, 1, source=source)

    @property
    def has_no_base(self) -> bool:
        """Whether the file, which was read, names no base: others may extend it."""
        return self._node.get("from") is None and bool(self._node.pairs)

    @property
    def stands_on(self) -> str:
        """The spec that the file's `from` names, or "": also of a file with faults."""
        node = self._node.get("from")
        text = node.text if node and node.kind == TEXT and not made_by_template(node) else ""
        return text.removeprefix("image:") if text.startswith("image:") else ""

    def specs(self) -> tuple[ImageSpec, ...]:
        """Of the file's images. Raises SpecErrors with all that is wrong."""
        made: list[ImageSpec] = []
        with self.problems.collected():
            node = self._parsed or parse_yaml(self.problems.source, self.problems)
            if node.kind != MAPPING:
                text = f"found {node.show()}, expected a mapping"
                raise node.fault(text, "begin with from: BASE")
            self._node = self.files.extended(without_free(node), self._above)
            made = self._made()
        parts = tuple(self.files.read)
        if not parts:
            return tuple(made)
        return tuple(
            spec._replace(
                parts=parts, stages=tuple(each._replace(parts=parts) for each in spec.stages)
            )
            for spec in made
        )

    def _made(self) -> list[ImageSpec]:
        matrix = self._node.get("matrix")
        if matrix is None:
            found = self._image({}, None, ())
            return [found] if found else []
        rows = self._reader.take(Kind(self._rows, {}), matrix)
        if rows is BAD:
            return []
        many = len(rows)
        self._renderer.refill(SPEC_FUEL + ROW_FUEL * many, SECONDS + ROW_SECONDS * many)
        axes = axes_of(matrix)
        made: dict[str, tuple[ImageSpec, Row]] = {}
        for number, row in enumerate(rows):
            if self._given.row in (None, number) and (found := self._image(row, number, axes)):
                other = made.setdefault(found.key, (found, row))[1]
                if other is not row:
                    at = self._node.get("name") or matrix
                    text = (
                        f"two rows of the matrix make the image {quote(found.key)}:"
                        f" {row_text(other)}; {row_text(row)}"
                    )
                    hint = f"give the image a name with all axes, such as {_naming(axes)}"
                    raise at.fault(text[:300], hint)
        return [spec for spec, _ in made.values()]

    def _rows(self, reader: Reader, matrix: Node) -> list[Row]:
        if templates := _templates(matrix):
            sets = own_sets(self._given.sets, self._stem)
            own = self._node.get("vars")
            values = Variables(reader, own, self._given.shared, sets, {}, {})
            values.needed({name for node in templates for name in reader.names_in(node)})
        return read_rows(reader, matrix)

    def _image(self, row: Row, number: int | None, axes: tuple[str, ...]) -> ImageSpec | None:
        node, reader, renderer, given = self._node, self._reader, self._renderer, self._given
        renderer.asked, reader.waits, renderer.given = {}, False, 0
        seen: dict[str, Any] = {"host": _machine(host_platform())}
        platforms, named = node.get("platforms"), node.get("name")
        if platforms is None or not _templates(platforms):
            built_for = self._platforms(platforms)
            seen["target"] = _machine(self._target(built_for))
        if named is None or not made_by_template(named):
            name = self._name(named)
            seen["spec"] = {"name": name}
        sets = self._sets(axes)
        values = Variables(reader, node.get("vars"), given.shared, sets, row, seen)
        variables = values.all()
        if "spec" not in seen:
            name = self._name(named)
            own = self._sets(axes, name or "")
            if number is not None and own != sets:
                values = Variables(reader, node.get("vars"), given.shared, own, row, seen)
                variables = values.all()
                if self._name(named) != name:
                    raise UsageError(f"--set {name}.NAME=... gives {name!r} another name")
        if "target" not in seen:
            built_for = self._platforms(platforms)
            seen["target"] = _machine(self._target(built_for))
        seen["spec"] = {"name": name}
        renderer.know({**seen, **variables})
        if number is not None and named is None:
            at = node.get("matrix") or node
            raise at.fault(
                "a matrix needs a 'name' that tells its images apart",
                f"write name: {_naming(axes)}",
            )
        key = name if number is not None else self._stem
        shown: dict[str, Any] = plain(variables, hidden=True)
        document: dict[str, Any] = {}
        left_out = self._left_out(node)
        fields = self._part("", node, SPEC, "a spec", document, blind=left_out is not None)
        waits, asked = reader.waits, dict(sorted(renderer.asked.items()))
        stages = self._stages(
            name or "", key or "", seen, variables, document, blind=left_out is not None
        )
        if name is None or key is None or (fields is None and left_out is None):
            return None
        if self._rendering:
            if left_out is not None:
                document = {"name": name, "when": False}
            self.documents.append({**document, "vars": shown} if shown else document)
        found = ImageSpec(
            name,
            self.problems.source.file,
            BaseRef("scratch", "", Place(self.problems.source.file, 1, 1)),
            (),
            variables=shown,
            environment=asked,
            key=key,
            left_out=left_out,
            row=number,
            axes=axes,
            stages=stages,
            platforms=built_for,
        )
        if fields is None or left_out is not None:
            return found
        platform = self._target(built_for) if built_for else None
        found = found._replace(stages=tuple(_beneath(each, stages) for each in stages))
        made = _filled(found, fields, platform, waits, key)
        shared = made.context
        return made._replace(
            stages=tuple(each._replace(context=each.context or shared) for each in made.stages)
        )

    def _sets(self, axes: tuple[str, ...], *names: str) -> dict[str, str]:
        """Of `--set` what is for an image; a matrix alone gives its axes."""
        found = own_sets(self._given.sets, self._stem, *names)
        return {name: text for name, text in found.items() if name not in axes}

    def _stages(
        self,
        name: str,
        key: str,
        seen: Mapping[str, Any],
        variables: Mapping[str, Any],
        document: dict[str, Any],
        *,
        blind: bool,
    ) -> tuple[ImageSpec, ...]:
        """The stages of an image, whose templates know what its own do."""
        node, problems = self._node.get("stages"), self.problems
        if node is None:
            return ()
        if node.kind != MAPPING:
            problems.add(node.fault(f"found {node.show()}, expected a mapping of names to stages"))
            return ()
        made, documents = [], {}
        for at, body in node.pairs:
            try:
                syntax.parse_name(at.text)
            except Malformed as error:
                problems.add(at_key(at, error))
                continue
            if body.kind != MAPPING:
                problems.add(body.fault(f"found {body.show()}, expected a mapping as in a spec"))
                continue
            documents[at.text] = part = dict[str, Any]()
            if found := self._stage(name, key, at.text, body, seen, variables, part, blind=blind):
                made.append(found)
        if documents and not blind:
            document["stages"] = documents
        return tuple(made)

    def _stage(
        self,
        name: str,
        key: str,
        stage: str,
        node: Node,
        seen: Mapping[str, Any],
        variables: Mapping[str, Any],
        document: dict[str, Any],
        *,
        blind: bool,
    ) -> ImageSpec | None:
        reader, renderer, given = self._reader, self._renderer, self._given
        renderer.asked, reader.waits = {}, False
        unknown = set(renderer.unknown)
        sets = own_sets(given.sets, self._stem, name)
        values = Variables(reader, node.get("vars"), {}, sets, {}, {**seen, **variables})
        renderer.unknown |= unknown
        own = values.all()
        shown: dict[str, Any] = plain({**variables, **own}, hidden=True)
        left_out = self._left_out(node)
        fields = self._part(
            stage, node, STAGE, "a stage", document, blind=blind or left_out is not None
        )
        if fields is None and left_out is None:
            return None
        if own and self._rendering:
            document["vars"] = plain(own, hidden=True)
        file = self.problems.source.file
        found = ImageSpec(
            f"{name}:{stage}",
            file,
            BaseRef("scratch", "", Place(file, node.line, node.column)),
            (),
            variables=shown,
            environment=dict(sorted(renderer.asked.items())),
            key=f"{key}:{stage}",
            left_out=left_out,
            row=None,
            stage=stage,
        )
        if fields is None or left_out is not None:
            return found
        platform = host_platform() if "platform" in fields else None
        return _filled(found, fields, platform, reader.waits, key)

    def _part(
        self,
        stage: str,
        node: Node,
        table: Table,
        what: str,
        document: dict[str, Any],
        *,
        blind: bool,
    ) -> dict[str, Any] | None:
        """The fields of the image or of a stage, and as plain data in `document`. `blind`: whatever
        templates give."""
        renderer, plain_steps = self._renderer, []
        renderer.base = self._given.base if stage == self._given.stage else None

        def step(node: Node) -> None:
            plain_steps.append(self._plain_step(node))

        def steps(reader: Reader, node: Node) -> Any:
            tell = step if self._rendering and reader is self._reader else None
            return Steps(reader, self.files, self._above, tell).read(node)

        field = table["steps"]
        table = {**table, "steps": field._replace(kind=field.kind._replace(read=steps))}
        renderer.blind = blind
        try:
            fields = read_table(self._reader, node, table, what)
        finally:
            renderer.blind = False
        if self._rendering and not blind:
            for key, value in node.pairs:
                if key.text == "steps":
                    document["steps"] = plain_steps
                elif key.text not in ("vars", "matrix", "when", "stages"):
                    document[key.text] = self._plain(value, asks=key.text == "config")
        return fields

    def _left_out(self, of: Node) -> str | None:
        """What the own condition of an image or a stage says, if that leaves it out."""
        node = of.get("when")
        if node is None:
            return None
        holds = self._reader.take(Kind(read_when, {}), node)
        return f"when: {' '.join(node.text.split())}" if holds is False else None

    def _name(self, node: Node | None) -> str | None:
        """`name:`, else the file's stem; None, with the fault noted, if it is no name."""
        if node is not None:
            name = self._reader.take(SPEC["name"].kind, node)
            return None if name is BAD else str(name)
        try:
            return syntax.parse_name(self._stem)
        except Malformed as error:
            hint = "rename the file, or give 'name:'"
            self.problems.add(Fault(1, 1, f"{quote(self._stem)} {error.what}", hint))
            return None

    def _platforms(self, node: Node | None) -> tuple[Platform, ...]:
        """What the spec says that it is built for."""
        found = () if node is None else self._reader.take(SPEC["platforms"].kind, node)
        return () if found is BAD else found

    def _target(self, built_for: tuple[Platform, ...]) -> Platform:
        """What it is built for, in templates."""
        wanted = self._given.platform
        return wanted if wanted in built_for or not built_for else built_for[0]

    def _plain_step(self, node: Node) -> dict[str, Any]:
        return {
            key.text: self._data(value) if key.text == "vars" else self._plain(value, asks=True)
            for key, value in node.pairs
        }

    def _data(self, node: Node) -> Any:
        try:
            return plain(self._reader.data(node), hidden=True)
        except (NeedsBase, Fault):
            return node.text

    def _plain(self, node: Node, *, asks: bool) -> Any:
        if node.kind == LIST:
            kept = [each for each in node.items if not self._reader.gives_nothing(each)]
            return [self._plain(each, asks=asks) for each in kept]
        if node.kind == MAPPING:
            return {key.text: self._plain(value, asks=asks) for key, value in node.pairs}
        self._renderer.may_ask = asks
        try:
            if made_by_template(node) and isinstance(value := self._reader.value(node), list):
                return plain(value, hidden=True)
            return (
                int(node.text, 0)
                if node.kind == INT
                else plain(self._reader.text(node), hidden=True)
            )
        except (NeedsBase, Fault):  # a fault is told by the reading
            return node.text
        finally:
            self._renderer.may_ask = False


def _filled(
    spec: ImageSpec,
    fields: Mapping[str, Any],
    platform: Platform | None,
    waits: bool,
    image: str,
) -> ImageSpec:
    """The spec with what its fields say; `image` is the key of the image whose stages it names."""
    steps, skipped = _apart(fields.get("steps", ()))
    return spec._replace(
        base=_within(image, fields["from"]),
        steps=tuple(step.within(partial(_within, image)) for step in steps),
        config=fields.get("config", ConfigChange()),
        tags=fields.get("tags", ()),
        platform=platform,
        waits=waits,
        skipped=skipped,
        context=fields.get("context"),
        tests=fields.get("tests", ()),
    )


def _beneath(stage: ImageSpec, stages: tuple[ImageSpec, ...]) -> ImageSpec:
    """A stage that stands on another runs where that one does, as in a Dockerfile."""
    known, seen = {each.key: each for each in stages}, stage
    for _ in stages:
        if seen.platform or seen.base.kind != "stage" or seen.base.value not in known:
            break
        seen = known[seen.base.value]
    return stage._replace(platform=seen.platform)


def _within(image: str, ref: BaseRef) -> BaseRef:
    """A stage goes by the key of its spec."""
    return ref._replace(value=f"{image}:{ref.value}") if ref.kind == "stage" else ref


def _apart(entries: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Skipped, ...]]:
    steps: list[Any] = []
    skipped: list[Skipped] = []
    for each in entries:
        if isinstance(each, Skipped):
            skipped.append(each._replace(after=len(steps)))
        else:
            steps.append(each)
    return tuple(steps), tuple(skipped)


def _machine(platform: Platform) -> dict[str, str]:
    """A platform as templates read it."""
    return {
        "os": platform.os,
        "arch": platform.architecture,
        "variant": platform.variant or "",
        "platform": str(platform),
    }


def _naming(axes: tuple[str, ...]) -> str:
    return '"image-' + "-".join(f"{{{{ {name} }}}}" for name in axes) + '"'


def _templates(node: Node) -> list[Node]:
    found, waiting = [], [node]
    while waiting:
        each = waiting.pop()
        waiting += [*each.items, *(value for _, value in each.pairs)]
        if made_by_template(each):
            found.append(each)
    return found
