"""`builder build --watch`: builds again whenever something changes that the images are made of.

What a change means is the plan's to say: one that alters nothing (a file that is ignored, a touch)
starts no build. A build is a process of its own, for which this one waits; what changes meanwhile
is seen when it has ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from builder.cli import screen, wiring
from builder.errors import BuilderError, UsageError
from builder.events import ignore
from builder.project import Project
from builder.ui.text import harmless

if TYPE_CHECKING:
    from builder.plan.plan import ImagePlan
    from builder.spec.model import ImageSpec

_STEP = 50  # milliseconds of quiet that end a change
_LONGEST = 400  # milliseconds that one may go on
_IDLE = 300  # milliseconds after which it is said that nothing changed
_SHOWN = 3  # paths of a change
_FILES = ("oci", "docker-archive", "rootfs")  # kinds of bases whose plan says what is in them

Tried = object
"""Equal where a build would do the same again."""


def watch(arguments: argparse.Namespace) -> int:
    """Goes on until it is interrupted."""
    if arguments.shell_on_failure:
        raise UsageError("--watch goes on after a failure, --shell-on-failure stays there")
    watched = _Watched(arguments)
    while True:
        roots = _topmost(watched.roots)
        for number, changed in enumerate(_changes(roots, wiring.cache_dir(arguments))):
            if changed or number == 0:  # what changed before all was being watched
                watched.look(changed)
            if _topmost(watched.roots) != roots:
                break
    return 0


def _changes(roots: Iterable[str], store: str) -> Iterator[list[str]]:
    """Paths that changed, those of a moment together; first none, once all is being watched."""
    from watchfiles import watch

    store = os.path.realpath(store)
    try:
        for changes in watch(
            *roots,
            watch_filter=lambda _, path: not f"{path}/".startswith(f"{store}/"),
            debounce=_LONGEST,
            step=_STEP,
            rust_timeout=_IDLE,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        ):
            yield sorted({path for _, path in changes})
    except OSError as error:
        raise UsageError(
            f"cannot watch the folders: {error}",
            "perhaps there are too many: sysctl fs.inotify.max_user_watches tells how many may be",
        ) from error


def _topmost(folders: Iterable[str]) -> list[str]:
    """Without those that lie in another."""
    found: list[str] = []
    for folder in sorted(folders):
        if not found or not f"{folder}/".startswith(f"{found[-1].rstrip('/')}/"):
            found.append(folder)
    return found


class _Watched:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._tried: Tried = None  # the last build
        self._failed = True
        self._error = ""  # the last one that a plan had
        self.roots = frozenset({os.path.realpath(Project(wiring.options(arguments)).context)})

    def look(self, changed: list[str]) -> None:
        """Build, if something changed that matters: the first time in any case."""
        try:
            tried, needed = self._plan()
        except BuilderError as error:
            if str(error) != self._error:
                self._say(changed)
                screen.show_error(error, self._arguments.progress)
            self._error = str(error)
            return
        repaired, self._error = bool(self._error), ""
        if tried != self._tried and (needed or self._failed):
            self._say(changed)
            self._failed = _run() != 0
        elif repaired:
            self._say(changed)
            sys.stderr.write("nothing to build\n")
        self._tried = tried

    def _plan(self) -> tuple[Tried, bool]:
        """What a build would be made of, and whether it would do anything. Raises BuilderError."""
        project = Project(wiring.options(self._arguments), ignore)
        specs, _ = project.load(self._arguments.images)
        self.roots |= _roots_of(project, specs, self._arguments)
        plans = project.plan(specs)
        return _tried(plans), any(each.changes for each in plans.values())

    def _say(self, changed: list[str]) -> None:
        if not changed:
            return
        there = [each for each in changed if os.path.lexists(each)]  # not what editors write first
        names = [harmless(os.path.relpath(each)) for each in there or changed]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        if self._arguments.progress != "json":
            sys.stderr.write(f"changed: {', '.join(names[:_SHOWN])}{more}\n")
            sys.stderr.flush()


def _roots_of(
    project: Project, specs: Mapping[str, ImageSpec], arguments: argparse.Namespace
) -> frozenset[str]:
    """The folders that hold what images are made of."""
    found = {project.context, arguments.specs}
    found |= {os.path.dirname(each) for each in arguments.vars_file}
    for spec in specs.values():
        found |= {os.path.dirname(each) for each in (spec.file, *spec.parts)}
        if spec.context:
            found.add(os.path.join(project.context, spec.context.path))
    there = {os.path.realpath(each or ".") for each in found}
    return frozenset(each for each in there if os.path.isdir(each))


def _tried(plans: Mapping[str, ImagePlan]) -> Tried:
    """Without what a build finds out that fails in the end, as the keys of later steps."""
    return [
        (
            *(name, plan.spec.config, plan.spec.tags, plan.spec.base),
            plan.base if plan.spec.base.kind in _FILES else "",
            [(step.step, [tree.fingerprint() for tree in step.sources]) for step in plan.steps],
        )
        for name, plan in plans.items()
    ]


def _run() -> int:
    """The status of a build of the same command line. An interrupt ends it, too."""
    argv = [each for each in sys.argv[1:] if each != "--watch"]
    sys.stdout.flush()
    # a group of its own: an interrupt reaches it once, from here
    child = os.posix_spawn(
        sys.executable, [sys.executable, "-m", "builder", *argv], os.environ, setpgroup=0
    )
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            status = os.waitpid(child, 0)[1]
        except KeyboardInterrupt as error:
            interrupt = error
            # a shell's job in the background ignores interrupts, and so does what it starts
            ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            os.kill(child, signal.SIGTERM if ignored else signal.SIGINT)
            continue
        if interrupt:
            raise interrupt
        return os.waitstatus_to_exitcode(status)
