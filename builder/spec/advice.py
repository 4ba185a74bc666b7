"""Advice: what a spec may say and hardly means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.errors import SpecError
from builder.spec.base import KINDS
from builder.spec.kinds import words
from builder.spec.load import error_at
from builder.spec.model import BaseRef, Copy, File, ImageSpec, Run
from builder.spec.node import Node
from builder.spec.render import is_template
from builder.spec.source import Fault, nearest, quote, written

_SERVED = (
    *("/usr/share/nginx/html/", "/var/www/", "/usr/local/apache2/htdocs/", "/usr/share/caddy/"),
    *("/srv/www/", "/srv/http/"),
)
_SHELLS = ("sh", "bash", "dash", "ash", "ksh", "zsh")


def advice(spec: ImageSpec, specs: Mapping[str, ImageSpec]) -> Iterator[SpecError]:
    """Warnings about one spec of a project."""
    yield from _misspelt_base(spec, specs)
    for step in spec.steps:
        if isinstance(step, Run):
            yield from _goes_on(step, step.shell or spec.config.shell)
        elif isinstance(step, (Copy, File)):
            yield from _served(step)


def cmd_passed_by(top: Node) -> Iterator[Fault]:
    """A shell takes what comes behind the text of an entrypoint for its own $0 and $1."""
    config = top.get("config") or top
    entrypoint, cmd = config.get("entrypoint"), config.get("cmd")
    if entrypoint is None or cmd is None or not entrypoint.text or not (cmd.text or cmd.items):
        return
    meant = [] if is_template(entrypoint.text) else words(entrypoint.text)
    shown = f"[{', '.join(map(written, meant))}]"
    yield entrypoint.fault(
        "an entrypoint as text runs under a shell, which passes cmd by",
        f"write {shown}" if meant and len(shown) < 200 else None,
    )


def _served(step: Copy | File) -> Iterator[SpecError]:
    """Files where a web server of the distributions or of the servers' own images looks for
    pages: it makes ETags of time and size."""
    kept = step.times or (isinstance(step, Copy) and "mtime" in step.preserve)
    if not kept and f"{step.dest}/".startswith(_SERVED):
        yield error_at(
            step.place,
            f"{step.dest!r} is where a web server serves from: a changed file of equal size would"
            " keep its ETag, and browsers the old one",
            "write times: content",
        )


def _misspelt_base(spec: ImageSpec, specs: Mapping[str, ImageSpec]) -> Iterator[SpecError]:
    meant = misspelt(spec.base)
    if meant and not (meant.startswith("image:") and meant[6:] not in specs):
        yield error_at(
            spec.base.place,
            f"{quote(spec.base.value)} is an image of a registry, did you mean {meant!r}?",
            f"write docker.io/library/{spec.base.value} if the registry's is meant",
        )


def misspelt(base: BaseRef) -> str | None:
    """The base that was meant, perhaps, by one that reads as a registry's: `imge:web`."""
    kind, colon, rest = base.value.partition(":")
    near = nearest(kind, KINDS) if base.kind == "registry" and colon else None
    return f"{near}:{rest}" if near else None


def _goes_on(step: Run, shell: tuple[str, ...] | None) -> Iterator[SpecError]:
    """A shell that goes on after a line that failed: the step is judged by its last line."""
    if shell is None or not isinstance(step.command, str):
        return
    lines = [line.strip() for line in step.command.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    options = [word for word in shell[1:] if word.startswith("-") and not word.startswith("--")]
    stops = any("e" in word for word in options) or "errexit" in shell
    if len(lines) < 2 or shell[0].rpartition("/")[2] not in _SHELLS or stops:
        return
    if lines[0].startswith(("set -e", "set -o errexit")) or all(
        line.endswith(("&&", "\\", "|")) for line in lines[:-1]
    ):
        return
    words = ", ".join(map(written, (shell[0], "-e", *shell[1:])))
    yield error_at(
        step.place,
        f"a line that fails is passed over: the shell {' '.join(shell)!r} has no -e",
        f"write shell: [{words}]",
    )
