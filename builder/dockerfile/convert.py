"""Convert: a Dockerfile to the tree of a spec that makes the same image, and what is said of it.

The last stage, or the one that is asked for, is the image; the others are `stages`. What the
language cannot say exactly is a Remark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Protocol

from builder.dockerfile import copying, running, settings
from builder.dockerfile.arguments import Arguments
from builder.dockerfile.expand import Bad, Ref, expanded, known
from builder.dockerfile.instructions import Dockerfile, Instruction, Stage, instruction, read
from builder.dockerfile.lines import read_lines
from builder.dockerfile.nodes import Place, below, mapping, put, template, text, variable
from builder.dockerfile.scopes import StageScope, Variables
from builder.dockerfile.words import Word
from builder.errors import BuilderError, UsageError
from builder.oci.image import Platform
from builder.oci.reference import parse_reference
from builder.spec.node import LIST, MAPPING, NULL, Node
from builder.spec.source import Fault, Problems, Source, did_you_mean, quote
from builder.spec.syntax import Malformed, parse_name


class Remark(NamedTuple):
    """What the spec does otherwise than the Dockerfile, at a place of that."""

    place: Place
    message: str


class Servers(Protocol):
    """Says what addresses give now. Raises BuilderError."""

    def checksum_now(self, url: str) -> str:
        """A sha256 in hex."""
        ...

    def commit_now(self, url: str, ref: str) -> str:
        """The id of the commit that a branch or a tag is. `ref`: "" for HEAD."""
        ...


class Late(NamedTuple):
    """What has to be known of an instruction once its stage is used: asked of a server, or said by
    hand."""

    fault: Fault
    ask: Callable[[Servers], bool]  # completes the step; False: it is not known what to ask for


class Wish(NamedTuple):
    """How it is converted. `given`: values of --build-arg, which are then text in the spec; None:
    ARGs become variables. `context`: the folder that sources are looked up in, None: none is.
    `excludes`: files of it that a copy of all of it leaves out. `idiomatic`: in the words of the
    language where these do nearly the same. `platform`: what is built, where that is text in the
    spec. `onbuild`: what the bases of stages ask for, by the stage's name, "" for the image's.
    `defaults` of ARGs count in place of their own. `servers` are asked for what an ADD takes from
    them without saying which; None: it has to say that."""

    given: Mapping[str, str] | None = None
    target: str = ""
    context: str | None = None
    excludes: tuple[str, ...] = ()
    idiomatic: bool = False
    platform: Platform | None = None
    onbuild: Mapping[str, tuple[str, ...]] = {}
    defaults: Mapping[str, str] = {}
    servers: Servers | None = None


class Converted(NamedTuple):
    top: Node
    comments: dict[int, list[str]]  # above a key or an entry, by the id of its node
    remarks: list[Remark]
    looked: bool  # whether files of the context, or servers, decided something
    arguments: dict[str, str]  # the ARGs and their values, as far as these are text


def convert(source: Source, wish: Wish) -> Converted:
    """Raises SpecErrors with all that is wrong in the Dockerfile, UsageError for a target or a
    build argument that it has not."""
    return _Converter(source, read(source), wish).converted()


class Part:
    """What is made of one stage."""

    def __init__(self, stage: Stage, number: int, parent: Part | None, scope: StageScope) -> None:
        self.stage = stage
        self.number = number
        self.parent = parent
        self.scope = scope
        self.name = stage.name or f"stage-{number}"
        self.own: dict[str, str] = dict(parent.own) if parent else {}
        self.declared: set[str] = set(parent.declared) if parent else set()
        at = stage.base.place
        self.base = text("scratch", at)
        self.host = False
        self.config = Node(MAPPING, *at)
        self.steps = Node(LIST, *at)
        self.ran = False  # a command has been
        self.shell: tuple[str, ...] | None = parent.shell if parent else None
        self.user: str = parent.user if parent else ""
        self.folder: str | None = parent.folder if parent else None  # absolute; None: the base's
        self.wanted: tuple[str, str] | None = None  # a WORKDIR that is not made yet, and its user
        self.needs: set[str] = set()  # names of stages that it takes from
        self.triggers: list[Instruction] = []  # of ONBUILD, for stages on this one
        self.late: list[Late] = []


class _Converter(Arguments):
    def __init__(self, source: Source, file: Dockerfile, wish: Wish) -> None:
        self.wish = wish
        self.file = file
        super().__init__(wish.platform, file.file.escape, Variables(wish.given, wish.defaults))
        self.problems = Problems(source)
        self.comments: dict[int, list[str]] = {}
        self.remarks: list[Remark] = []
        self.looked = False

    def converted(self) -> Converted:
        with self.problems.collected():
            self._directives()
            for each in self.file.arguments:
                self._guarded(each, self.before_stages)
            for number, stage in enumerate(self.file.stages):
                self._guarded(stage.base, partial(self._stage, number, stage))
            if not len(self.problems):
                top = self._whole(self._target())
        return Converted(top, self.comments, self.remarks, self.looked, self.arguments)

    def _guarded(self, found: Instruction, do: Callable[[Instruction], None]) -> None:
        try:
            do(found)
            self.remarks += [Remark(found.place, each) for each in self.fixed]
            self.fixed.clear()
        except Bad as bad:
            self.problems.add(found.fault(bad.message, bad.hint, bad.at))
        except Fault as fault:
            self.problems.add(fault)

    def remark(self, place: Place, message: str, at: Node | None = None) -> None:
        """Say it, and as a comment above `at`."""
        self.remarks.append(Remark(place, message))
        if at is not None:
            self.comments.setdefault(id(at), []).append(f"builder: {message}")

    def _directives(self) -> None:
        for each in self.file.file.directives:
            name = each.value.partition(":")[0]
            if each.name == "syntax" and name not in (
                "docker/dockerfile", "docker/dockerfile-upstream", "docker.io/docker/dockerfile",
            ):  # fmt: skip
                self.remark(
                    (each.line, 1),
                    f"the syntax {quote(each.value)} is not followed: it is read as a Dockerfile",
                )

    # -- stages ------------------------------------------------------------------------------------

    def _stage(self, number: int, stage: Stage, found: Instruction) -> None:
        named = template(self.value(found.args[0], self.globals.get))
        if not named:
            raise found.fault(
                f"FROM {quote(found.args[0].text)} names no image",
                "give the ARG a default, or a value with --build-arg", found.args[0].at,
            )  # fmt: skip
        parent = self._stage_named(found.args[0], named)
        if not parent:
            self._needed(found.args[0])
        scope = parent.scope.child() if parent else StageScope.new(on_scratch=named == "scratch")
        part = Part(stage, number, parent, scope)
        part.name = self._name(stage, number)
        self.parts.append(part)
        at = found.line.at(found.args[0].at)
        if parent:
            part.needs.add(parent.name)
            part.base = text(f"stage:{named if '{{' in named else parent.name}", at, ready=True)
        else:
            part.base = text(named, at, ready=True)
            if named == "scratch":
                # as BuildKit begins an image of nothing
                settings.on_scratch(part)
        self._platform(part, parent)
        asked = [each.text for each in parent.triggers] if parent else self._asked(part)
        for line in asked:
            self._guarded(found, partial(self._trigger, part, line))
        for each in stage.steps:
            self._guarded(each, partial(self._do, part))
        settings.finish(self, part)

    def _name(self, stage: Stage, number: int) -> str:
        """What it is called in the spec: a name that another has had already is that one's."""
        try:
            name = parse_name(stage.name)
        except Malformed:
            return f"stage-{number}"
        taken = any(each.name == name for each in self.parts)
        return f"{name}-{number}" if taken else name

    def _stage_named(self, word: Word, named: str) -> Part | None:
        """The stage that FROM names; where variables decide, the one that their defaults mean."""
        if "{{" in named:
            usual = self.usual(self.globals.get)
            named = known(expanded(word.text, self.escape, usual, fuel=self.fuel)) or ""
        return next((each for each in reversed(self.parts) if each.stage.name == named), None)

    def _needed(self, word: Word) -> None:
        """The variables without a default that no image is named without."""
        try:
            parse_reference(re.sub(r"\{\{.*?\}\}", "x", self.by_default(word, self.globals.get)))
        except UsageError:
            for each in self.value(word, self.globals.get):
                if isinstance(each, Ref) and each.expression in self.variables.unset:
                    self.variables.needed.add(each.expression)

    def _asked(self, part: Part) -> tuple[str, ...]:
        """ONBUILD of the base, where that is known."""
        target = self.wish.target or str(len(self.file.stages) - 1)
        last = target.lower() in (part.stage.name, str(part.number))
        return self.wish.onbuild.get("" if last else part.name, ())

    def _trigger(self, part: Part, text_: str, found: Instruction) -> None:
        """An instruction of ONBUILD, at the place of FROM."""
        for line in read_lines(Source("ONBUILD", text_)).lines:
            line = line._replace(spots=((0, *found.place),), comments=())
            self._do(part, instruction(line, self.escape))

    def _platform(self, part: Part, parent: Part | None) -> None:
        found = part.stage.base
        flag = found.flag("platform")
        if flag is None:
            part.host = parent.host if parent else False
            return
        said = template(self.value(Word(flag.value, flag.at), self.globals.get))
        target, host = (
            known(self.globals[f"{each}PLATFORM"].value) for each in ("TARGET", "BUILD")
        )
        if flag.value.strip("${}") == "BUILDPLATFORM" or said == (host or "{{ host.platform }}"):
            part.host = True
        elif "{{ target." not in said and (said if "/" in said else f"linux/{said}") != target:
            self.remark(
                found.line.at(flag.at),
                f"--platform={said} is not said here: the image is for the platform that is built",
                part.base,
            )

    def _target(self) -> Part:
        wanted = self.wish.target
        if not wanted:
            return self.parts[-1]
        if wanted.isdecimal() and len(wanted) < 6 and int(wanted) < len(self.parts):
            return self.parts[int(wanted)]
        for part in self.parts:
            if part.stage.name == wanted.lower():
                return part
        names = [part.stage.name for part in self.parts if part.stage.name]
        hint = f"its stages: {', '.join(names)}" if names else "its stages have no names"
        raise UsageError(
            f"--target {wanted!r}: the Dockerfile has no such stage{did_you_mean(wanted, names)}",
            hint,
        )

    def _do(self, part: Part, found: Instruction) -> None:
        word = found.word
        if word == "ARG":
            self.argument(part, found)
        elif word == "RUN":
            running.run(self, part, found)
        elif word in ("COPY", "ADD"):
            copying.copy(self, part, found)
        elif word == "ONBUILD":
            part.triggers.append(found._replace(args=(found.args[0],)))
            triggers = below(part.config, "onbuild", found.place, LIST)
            triggers.items.append(text(found.text, found.place))
        else:
            settings.change(self, part, found)

    # -- steps -------------------------------------------------------------------------------------

    def add(self, part: Part, step: Node, found: Instruction) -> None:
        """A step, with what the comments above its instruction say."""
        part.steps.items.append(step)
        kept = list(found.line.comments)
        if self.wish.given is not None:
            step.pairs.insert(0, (text("name", found.place), text(_shown(found), found.place)))
        if self.wish.given is None and len(kept) == 1 and _is_name(kept[0]):
            name = text(kept.pop().rstrip("."), found.place)
            step.pairs.insert(0, (text("name", found.place), name))
        if kept:
            self.comments.setdefault(id(step), [])[:0] = kept

    # -- the whole ---------------------------------------------------------------------------------

    def _whole(self, target: Part) -> Node:
        at = (1, 1)
        self.settle(target)
        top = Node(MAPPING, *at)
        if self.variables.top:
            values = Node(MAPPING, *at)
            for name, default in self.variables.top.items():
                needed = name in self.variables.needed & self.variables.unset
                value = Node(NULL, *at, "null") if needed else variable(default, at)
                key = put(values, name, value, at)
                if told := self.heads.get(name):
                    self.comments[id(key)] = told
                if name in self.variables.unset:
                    else_ = "must be given" if needed else "is empty where it is not given"
                    self.comments.setdefault(id(key), []).append(
                        f"builder: it has no default, and {else_}"
                    )
            put(top, "vars", values, at)
        stages = Node(MAPPING, *at)
        used = self._used(target)
        for part in (*used, target):
            for late in part.late:
                self._ask(late)
        for part in used:
            body = Node(MAPPING, *part.stage.base.place)
            self._fill(body, part, target)
            key = put(stages, part.name, body, part.stage.base.place)
            if part.stage.base.line.comments:
                self.comments[id(key)] = list(part.stage.base.line.comments)
        if stages.pairs:
            put(top, "stages", stages, at)
        self._fill(top, target, target)
        if target.stage.base.line.comments:
            key = next(key for key, _ in top.pairs if key.text == "from")
            self.comments.setdefault(id(key), [])[:0] = target.stage.base.line.comments
        return top

    def _ask(self, late: Late) -> None:
        if self.wish.servers is None:
            self.problems.add(late.fault)
            return
        self.looked = True
        try:
            known = late.ask(self.wish.servers)
        except BuilderError as error:
            fault = late.fault
            self.problems.add(Fault(fault.line, fault.column, error.what, error.hint, fault.source))
        else:
            if not known:
                self.problems.add(late.fault)

    def _used(self, target: Part) -> list[Part]:
        """What the target needs; in a spec that is to be kept, all the others."""
        others = [part for part in self.parts if part is not target]
        if self.wish.given is None:
            return others
        by_name = {part.name: part for part in self.parts}
        needed: set[str] = set()
        waiting = [target]
        while waiting:
            for name in waiting.pop().needs - needed:
                needed.add(name)
                waiting.append(by_name[name])
        return [part for part in others if part.name in needed]

    def _fill(self, into: Node, part: Part, target: Part) -> None:
        at = part.stage.base.place
        put(into, "from", part.base, at)
        if remarks := self.comments.pop(id(part.base), None):
            key = next(key for key, _ in into.pairs if key.text == "from")
            self.comments.setdefault(id(key), []).extend(remarks)
        if part.host and part is not target:
            put(into, "platform", text("host", at), at)
        if part.own:
            values = {name: variable(each, at) for name, each in part.own.items()}
            put(into, "vars", mapping(values, at), at)
        if part.steps.items:
            put(into, "steps", part.steps, at)
        if part.config.pairs:
            put(into, "config", part.config, at)

    def stage_of(self, part: Part, said: str) -> Part | None:
        """The stage that --from means, by its number or its name."""
        before = self.parts[: part.number]
        if said.isdecimal() and len(said) < 6:
            return before[int(said)] if int(said) < len(before) else None
        return next((each for each in reversed(before) if each.stage.name == said.lower()), None)


def _shown(found: Instruction) -> str:
    """An instruction on one line, for progress and history."""
    line = " ".join("".join(c if c.isprintable() else " " for c in found.line.text).split())
    return line if len(line) <= 200 else line[:199] + "…"


def _is_name(comment: str) -> bool:
    """Whether a comment is a step's name, and no instruction, and nothing for another program."""
    first = comment.split(None, 1)[0] if comment.split() else ""
    return (
        0 < len(comment) <= 60
        and comment.isprintable()
        and any(char.isalpha() for char in comment)
        and not (first.isupper() and len(first) > 2)
        and not any(sign in comment for sign in ("=", "http://", "https://", "&&"))
    )
