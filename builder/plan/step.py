"""Steps: what planning and building ask of a step. What each verb answers is in a module of its own
(builder.steps), none of which is named here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from builder.errors import BuilderError, SpecError, UsageError
from builder.plan.clock import timestamp
from builder.plan.config import in_image, working_dir
from builder.spec import model
from builder.spec.files import is_dockerfile
from builder.spec.model import BaseRef, ConfigChange, ImageSpec, Place, shown, without_values

if TYPE_CHECKING:
    from builder.errors import CommandFailed
    from builder.executor.base import Command
    from builder.oci.image import Document, Platform
    from builder.plan.changes import Changes
    from builder.plan.context import Context, Scanned
    from builder.plan.materials import Materials
    from builder.plan.origin import SourceImage
    from builder.plan.remote import Remote
    from builder.rootfs.view import View
    from builder.spec.mounts import Mount


class _Step(model.Step):
    __slots__ = ()
    hashes: bool = False
    """Its key needs the digests of the files it takes: they may be hashed while the base comes."""
    reads_base = False
    """Its own template may ask for the base's config (`on_base`)."""

    def title(self) -> str:
        """What it does, in a few words: its name where the spec gives it none."""
        raise NotImplementedError

    def created_by(self) -> str:
        """The same for the image's history."""
        return self.title()

    def scan(self, context: Context) -> Scanned:
        """Look at what it takes from the context; no file is read. Raises BuilderError."""
        return []

    def look_into(self, origins: Sequence[SourceImage]) -> None:
        """Read what it needs to know of the files that it takes from other images."""

    @property
    def may_come(self) -> tuple[str, ...]:
        """What it would take from the context if it were there; globs allowed."""
        return ()

    def lacks(self, context: Context) -> Iterator[SpecError]:
        """What the context lacks of what it names, whatever the steps before it do."""
        yield from self.fault_of(lambda: self.scan(context))

    def fault_of(self, look: Callable[[], object]) -> Iterator[SpecError]:
        """The error of `look` as one of the spec, at its place."""
        try:
            look()
        except (SpecError, UsageError):
            raise  # of the ignore file
        except BuilderError as error:
            from builder.spec.files import error_at

            yield error_at(self.place, without_values(error.what, self), error.hint)

    def check(
        self, spec: ImageSpec, context: Context, environ: Mapping[str, str]
    ) -> Iterator[SpecError]:
        """What `lint` finds wrong beyond that, without a base."""
        return iter(())

    def advice(self, spec: ImageSpec, context: Context) -> Iterator[SpecError]:
        """What `lint` warns of: what can be built and is hardly meant."""
        return iter(())

    def on_base(self, base: Mapping[str, Any]) -> Self:
        """The step, given what the base's config says to templates (plan.waiting)."""
        return self

    def rooted(self, folder: str) -> Self:
        """The step with its targets absolute; relative ones are taken from `folder`."""
        return self

    def remote(self, platform: Platform) -> Remote | None:
        """What it takes from a server, if it does. Raises BuilderError."""
        return None

    def without_sources(self) -> Self:
        """The step without the names of what it takes from the context, where its layer holds what
        `scan` saw and nothing of them."""
        return self


class FileStep(_Step):
    """A step whose layer is told beforehand, as changes to what it stands on."""

    __slots__ = ()
    kind = "files"

    @property
    def dest(self) -> str:
        """Its target, for what is said here of most verbs; one with several says it otherwise."""
        raise NotImplementedError

    @classmethod
    def waiting(cls, place: Place, name: str, origins: tuple[BaseRef, ...] = ()) -> model.Step:
        from builder.plan.implied import Nothing

        return Nothing(place, name, cls.verb, origins)

    def title(self) -> str:
        return f"{self.verb} {shown(self.dest)}"

    def rooted(self, folder: str) -> Self:
        made: Self = cast(Any, self)._replace(dest=in_image(self.dest, folder))
        return made

    @property
    def in_working_dir(self) -> bool:
        """Whether it needs the working directory, which is made for it then."""
        return not self.dest.startswith("/")

    def changes(self, given: Materials) -> Changes:
        """What it puts into its layer; its targets are absolute. Nothing is written. Raises
        BuilderError."""
        raise NotImplementedError


class Explained(NamedTuple):
    """Why a command failed, in words of the spec."""

    what: str
    hint: str | None
    place: Place


class CommandStep(_Step):
    """A step whose layer is what a command changes."""

    __slots__ = ()
    kind = "run"
    mounts: tuple[Mount, ...] = ()
    """What the command sees beside the image."""
    script = ""
    """What it runs beside what its fields say."""

    @property
    def dated(self) -> bool:
        """Whether what it makes depends on the day: `--pull` runs it again, `plan` says the day."""
        return False

    def copies(self) -> tuple[FileStep, ...]:
        """What makes the files that its binds show, and those of new caches, in their order: hidden
        copies to plan.mounts.NAME."""
        return ()

    @classmethod
    def waiting(cls, place: Place, name: str, origins: tuple[BaseRef, ...] = ()) -> model.Step:
        from builder.plan.implied import NoCommand

        return NoCommand(place, name, cls.verb, origins)

    def command_on(self, config: Document, view: View, epoch: int) -> Command:
        """The command with everything decided. Raises BuilderError."""
        raise NotImplementedError

    def explain(self, error: CommandFailed) -> Explained | None:
        """What it means that the command failed, if the verb knows."""
        return None


class ConfigStep(_Step):
    """A step without a layer: it changes the config for the steps after it, and the image's."""

    __slots__ = ()
    kind = "config"

    @classmethod
    def waiting(cls, place: Place, name: str, origins: tuple[BaseRef, ...] = ()) -> model.Step:
        from builder.plan.implied import NoConfig

        return NoConfig(place, name, cls.verb, origins)

    @property
    def change(self) -> ConfigChange:
        """What it changes; a relative working_dir is below the one there is."""
        raise NotImplementedError


Step = FileStep | CommandStep | ConfigStep


def own_steps(spec: ImageSpec) -> tuple[Step, ...]:
    """The spec's steps. Reading a spec knows of them what model.Step says; all are these."""
    return cast(tuple[Step, ...], spec.steps)


def steps_of(spec: ImageSpec) -> tuple[Step, ...]:
    """The spec's steps, and the one that the working_dir asks for that config or a step sets: it is
    made when no step needed it before (plan.folders). That one counts only where there is something
    to make."""
    steps = own_steps(spec)
    setting = [
        step
        for step in steps
        if isinstance(step, ConfigStep) and step.change.working_dir is not None
    ]
    given = (spec.config.working_dir, *(step.change.working_dir for step in setting))
    path = working_dir(*given)
    if path == "/":
        return steps
    from builder.plan.implied import Nothing

    place = setting[-1].place if setting else Place(spec.file, 1, 1)
    return (*steps, Nothing(place, f"working_dir {path}", "directory"))


def step_name(step: Step) -> str:
    """The step's name, or what it does in a few words; of a Dockerfile's with its line."""
    told = shown(step.name) if step.name else step.title()
    line = step.place.line if is_dockerfile(step.place.file) else 1
    return f"line {line}: {told}" if line > 1 else told  # in the first no step can be


def history(step: Step, epoch: int) -> dict[str, Any]:
    """A history entry (image-spec config.md). `created_by` is the step as one reads it."""
    entry = {"created": timestamp(epoch), "created_by": _published(step.created_by())}
    if step.name and is_dockerfile(step.place.file):
        entry["created_by"] = _published(shown(step.name))
    elif step.name:
        entry["comment"] = _published(shown(step.name))
    return entry


def _published(text: str) -> str:
    """Without the digests of what env() gave: whoever has the image could try values."""
    if "<env " not in text:
        return text
    import re

    return re.sub("(<env [^ >]*) [0-9a-f]{12}>", r"\1>", text)
