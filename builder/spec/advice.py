"""Advice: what a spec may say and hardly means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.errors import SpecError
from builder.spec.base import KINDS
from builder.spec.files import error_at
from builder.spec.kinds import words
from builder.spec.model import BaseRef, ImageSpec, Place
from builder.spec.node import Node
from builder.spec.render import is_template
from builder.spec.source import Fault, nearest, quote, written

_SERVED = (
    *("/usr/share/nginx/html/", "/var/www/", "/usr/local/apache2/htdocs/", "/usr/share/caddy/"),
    *("/srv/www/", "/srv/http/"),
)


def advice(spec: ImageSpec, specs: Mapping[str, ImageSpec]) -> Iterator[SpecError]:
    """Warnings about one spec of a project."""
    yield from _misspelt_base(spec, specs)


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


def served(place: Place, dest: str) -> Iterator[SpecError]:
    """Files with the clock's time where a web server of the distributions or of the servers' own
    images looks for pages: it makes ETags of time and size."""
    if f"{dest}/".startswith(_SERVED):
        yield error_at(
            place,
            f"{dest!r} is where a web server serves from: a changed file of equal size would"
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
    real = kind == "docker"  # an image of the Hub, docker:dind
    near = nearest(kind, KINDS) if base.kind == "registry" and colon and not real else None
    return f"{near}:{rest}" if near else None
