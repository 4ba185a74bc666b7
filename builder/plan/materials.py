"""What the changes of a file step are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from builder.plan.changes import Ground
from builder.plan.context import Context, Scanned
from builder.plan.remote import Fetched

if TYPE_CHECKING:
    from builder.plan.origin import SourceImage


class Materials(NamedTuple):
    context: Context
    scanned: Scanned  # what the step takes from it
    ground: Ground
    environ: Mapping[str, str]  # for env('NAME') in the file of a template
    asked: dict[str, str | None]  # takes what env() was asked for there, and gave
    fetched: Fetched | None = None  # what it takes from a server
    read_later: bool = False  # files may stay unread (Context.digests)
    origins: tuple[SourceImage, ...] = ()  # the images that the step takes files from
