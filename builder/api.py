"""The Python API: read a spec, plan images, build them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from builder.events import Emit, ignore
from builder.project import Options, Project
from builder.spec.model import ImageSpec
from builder.steps import VERBS

if TYPE_CHECKING:
    from builder.make.image import Built
    from builder.plan.plan import ImagePlan


def load_spec(path: str, **options: Any) -> ImageSpec:
    """Read one spec; `options` are `environ`, which must be given, `sets` and `vars_files`, as of
    spec.load. Raises SpecErrors with everything wrong in the file, UsageError for what cannot be
    read."""
    from builder.spec.load import load_spec

    return load_spec(path, verbs=VERBS, **options)


def make_plan(images: Sequence[str] = (), **options: Any) -> dict[str, ImagePlan]:
    """Say what a build would do: a plan for each image and what it stands on, bases first.

    `images` are names or paths of specs, none for all; `options` are the fields of Options, of
    which `cache_dir` must be given. Raises BuilderError (SpecErrors for faults in specs).
    """
    project = Project(Options(**options))
    specs, _ = project.load(images)
    return project.plan(specs)


def build(images: Sequence[str] = (), *, emit: Emit = ignore, **options: Any) -> dict[str, Built]:
    """Build images and what they stand on, bases first; they are in the store by their names. Of an
    image for several platforms (`platforms=parse_platforms(["linux/amd64,linux/arm64"])` of
    builder.oci.image, or what its spec says) there is one for each, by a name such as
    `site (linux/arm64)`; its own name means the index in the store.

    Arguments as for make_plan; `emit` gets events as things happen. As an ordinary user with
    command steps to run, call it while the process has one thread: it enters a user namespace.
    Raises BuilderError; what was built before a failure stays cached.
    """
    project = Project(Options(**options), emit)
    specs, _ = project.load(images)
    project.become_root(specs)
    return project.build(specs)
