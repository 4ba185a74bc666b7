"""Guard: the secrets that a build works with, kept out of all that is told and all that is kept."""

from __future__ import annotations

import os
import stat
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from builder.errors import (
    BuilderError,
    CommandFailed,
    LayerError,
    SpecError,
    TestFailure,
    each_of,
)
from builder.events import Event, Lines
from builder.layer.content import read_chunks
from builder.layer.entry import FILE, Change, Entry, HostFile
from builder.layer.read import show
from builder.oci.image import Document, Image
from builder.plan.step import CommandStep, own_steps
from builder.secrets.given import Need, Secrets
from builder.secrets.mask import Finder, Mask, Stream, forms
from builder.spec.files import error_at, snippet_at
from builder.spec.model import ImageSpec, shown
from builder.spec.mounts import Secret, Ssh

if TYPE_CHECKING:
    from builder.executor.agent import Agents
    from builder.executor.base import Command

_SAID = ("config", "history", "author")
"""Of an image's document: the rest is made of digests, times and names of platforms."""
_SHORT = 8  # bytes; a shorter value may stand somewhere by chance


def needs_of(specs: Iterable[ImageSpec]) -> Iterator[Need]:
    """What the steps of specs need, in order."""
    for step in (step for spec in specs for step in own_steps(spec)):
        for each in step.mounts if isinstance(step, CommandStep) else ():
            if isinstance(each, Secret):
                env = each.env is not None
                yield Need(each.name, each.place, step.place, env, each.required)
            elif isinstance(each, Ssh):
                yield Need(each.name, each.place, step.place, required=each.required, ssh=True)


def lacking_agents(agents: Agents, needs: Iterable[Need]) -> dict[Need, SpecError]:
    """What is wrong with the agents that are needed."""
    faults: dict[str, BuilderError | None] = {}
    errors = {}
    for need in (each for each in needs if each.ssh):
        if not (need.required or agents.known(need.name)):
            continue
        if need.name not in faults:
            faults[need.name] = None
            try:
                agents.path(need.name)
            except BuilderError as error:
                faults[need.name] = error
        if fault := faults[need.name]:
            errors[need] = error_at(need.place, fault.what, fault.hint)
    return errors


class Guard:
    """`values` of the secrets that steps of the build may see, by name; `secrets` gives others, of
    steps that are not known until their base is."""

    def __init__(self, values: Mapping[str, bytes], secrets: Secrets, agents: Agents) -> None:
        self._lock = allocate_lock()
        self._secrets, self.agents = secrets, agents
        self._keep(values)

    def _keep(self, values: Mapping[str, bytes]) -> None:
        self.values = values
        self.mask, self._finder = Mask(values.values()), Finder(values)

    def value(self, mount: Secret) -> bytes | None:
        """None: it is not given, and need not be. Raises BuilderError."""
        with self._lock:
            if mount.name not in self.values:
                if not mount.required and not self._secrets.known(mount.name):
                    return None
                self._keep({**self.values, mount.name: self._secrets.value(mount.name)})
            return self.values[mount.name]

    def too_short(self) -> list[tuple[str, int]]:
        """Secrets that nothing can be done for, with their bytes."""
        return [(name, len(value)) for name, value in self.values.items() if not forms(value)]

    def event(self, event: Event) -> Event:
        """The event as it may be told."""
        if not self.mask:
            return event
        return cast(Event, self._masked(event))

    def _masked(self, value: object) -> object:
        """The texts of an event, wherever they are in its tuples."""
        if isinstance(value, str):
            return self.mask.text(value)
        if not isinstance(value, tuple):
            return value
        parts: Any = map(self._masked, value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)

    def lines(self, take: Callable[[str], None]) -> Lines:
        """A program's output as lines that may be told."""
        return _Masked(take, self.mask.stream())

    def error(self, error: BuilderError) -> None:
        """Make it an error that may be told."""
        for each in each_of(error):
            each.what = self.mask.text(each.what)
            each.hint = each.hint and self.mask.text(each.hint)
            if isinstance(each, TestFailure):
                each.tail = tuple(map(self.mask.text, each.tail))
            if isinstance(each, CommandFailed):
                each.tail = ()  # the executor's, as it was printed: the excerpt is masked
            elif each.place and not each.snippet:  # else it would be read when it is shown
                each.snippet = snippet_at(each.place)
            each.snippet = each.snippet and self.mask.text(each.snippet)

    def changes(
        self, changes: Iterable[Change], top: bytes = b"", seen: bytes = b""
    ) -> Iterator[Change]:
        """What a layer is made of; what is below `top` a step sees at `seen`. Raises LayerError for
        what would hold a secret."""
        for entry, content in changes:
            names = (entry.path, entry.link, *(part for pair in entry.xattrs for part in pair))
            found = self._finder.in_bytes(b"\0".join(names))
            if not found and entry.type == FILE and content is not None:  # no whiteout
                looked = content._replace(digest=None) if isinstance(content, HostFile) else content
                found = self._finder.in_chunks(read_chunks(entry, looked))
            if found:
                path = seen + b"/" + entry.path[len(top) :].lstrip(b"/")
                raise self._fault(found, self.mask.text(show(path.rstrip(b"/"))))
            yield entry, content

    def check_folder(self, folder: str) -> None:
        """What a failed command left. Raises LayerError, OSError."""
        if self._finder:
            for _ in self.changes(_all_in(folder)):
                pass

    def check(self, command: Command) -> None:
        """What is kept of a step's texts. Raises LayerError."""
        kept = [shown(text) for text in (*command.argv, *command.env.values())]
        if found := self._finder.in_bytes("\0".join(kept).encode("utf-8", "surrogateescape")):
            raise self._fault(found, "what the step says")

    def check_image(self, image: Image) -> None:
        """Its config with its history. Raises LayerError."""
        said = {name: image.config[name] for name in _SAID if name in image.config}
        for where, text in _texts(said, ""):
            if found := self._finder.in_bytes(text.encode("utf-8", "surrogateescape")):
                raise self._fault(found, f"the image's {self.mask.text(where)}")

    def _fault(self, name: str, where: str) -> LayerError:
        size = len(self.values[name].strip())
        if size < _SHORT:
            hint = f"a value of {size} bytes may stand there by chance: a longer one does not"
        else:
            hint = (
                "use it where it is mounted, and remove what holds it in the same step;"
                " `exclude` or .dockerignore leaves a file out of a copy"
            )
        return LayerError(f"{where} would hold the secret {name!r}", hint)


def _all_in(root: str) -> Iterator[Change]:
    """What is below a folder that nothing writes to: names, links, bytes and attributes. Raises
    OSError; also where a path is too long to be opened."""
    top = os.fsencode(root)
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        for name in os.listdir(folder):
            path = folder + b"/" + name
            status = os.lstat(path)
            link, content = b"", None
            if stat.S_ISDIR(status.st_mode):
                waiting.append(path)
            elif stat.S_ISLNK(status.st_mode):
                link = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = HostFile(path)
            xattrs = tuple(
                (os.fsencode(each), os.getxattr(path, each, follow_symlinks=False))
                for each in os.listxattr(path, follow_symlinks=False)
            )
            inner = path[len(top) + 1 :]
            yield Entry(inner, FILE, 0, size=status.st_size, link=link, xattrs=xattrs), content


class _Masked(Lines):
    def __init__(self, take: Callable[[str], None], stream: Stream) -> None:
        super().__init__(take)
        self._stream = stream

    def feed(self, chunk: bytes) -> None:
        super().feed(self._stream.feed(chunk))

    def close(self) -> None:
        super().feed(self._stream.close())
        super().close()


def _texts(value: Document | Any, where: str) -> Iterator[tuple[str, str]]:
    """All texts of a document, keys too, with what leads to them."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            below = f"{where}.{key}" if where else str(key)
            yield below, str(key)
            yield from _texts(each, below)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _texts(each, f"{where}[{number}]")
