"""The first spec of a project, and its project file, with comments that teach."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from builder.errors import SpecErrors, UsageError
from builder.oci.image import host_platform
from builder.spec.dockerfile import NAMES, Instruction, Unknown, base_of, instructions
from builder.spec.files import read_bytes
from builder.spec.model import Verbs
from builder.spec.source import Source, quote, written

_SHOWN = 80  # instructions of a Dockerfile

_HEAD = """\
# One image. `builder plan` says what would be built, `builder build` builds it; `builder schema`
# tells editors all words.
"""

_BASE = """\
# What it stands on: nothing (scratch), a registry's image (debian:12), another spec (image:NAME),
# a Debian made here (debootstrap:bookworm) ...
"""

_STEPS = """\
vars:
  greeting: Hello                   # builder build --set greeting=Hi

# Each step is a layer; it is built again only when what it says or copies has changed.
steps:
  - name: greeting
    file: /srv/hello.txt
    content: "{{ greeting }} from {{ spec.name }}\\n"
  # - copy: src/                    # from the folder that holds the specs' folder
  #   dest: /srv/app/
  #   exclude: ["*.bak"]
  # - run: make -C /srv/app         # needs a base with a shell

config:
  working_dir: /srv
  # env: {PORT: "80"}
  # cmd: [/srv/app/run]
# tags: ["registry.example/team/app:1.0"]
"""

_BY_HAND = """\
# RUN is a step `run`, COPY and ADD are `copy`, `unpack` or `download`; ENV, USER and WORKDIR are
# `set` where their place among the steps counts; ARG is `vars`, each FROM but the last one of the
# `stages`; all others belong to `config`:
#
# steps:
#   - copy: .
#     dest: /srv/app/
#     exclude: [{specs}]
#   - run: make -C /srv/app
# config:
#   working_dir: /srv/app
#   cmd: [/srv/app/run]
"""

_PROJECT = """\
# What holds for all specs of this project; `name` is whose their images are, in every checkout.
name: {name}
"""


def project_file(name: str) -> str:
    return _PROJECT.format(name=name)


def name_for(folder: str) -> str:
    """An image's name made of a folder's."""
    found = re.findall("[a-z0-9]+", os.path.basename(os.path.realpath(folder)).lower())
    return "-".join(found)[:60].rstrip("-") or "app"


def first_spec(name: str, folder: str, specs: str, base: str | None, verbs: Verbs) -> str:
    """The text of a spec. Its base is `base`, else the one of the Dockerfile in `folder`, else
    nothing: that builds at once, everywhere and without a network. `specs` is the name of the
    specs' folder. Raises UsageError."""
    where = "--from"
    dockerfile, found = _dockerfile(folder)
    if base is None and dockerfile:
        try:
            base = base_of(found)
            where = f"{dockerfile}: its base"
        except Unknown as unknown:
            raise UsageError(
                f"{dockerfile}: its base needs the ARG {unknown}, which has no value",
                "name the base: builder init --from IMAGE",
            ) from None
    base = "scratch" if base is None else base
    text = f"{_HEAD}\n{'' if dockerfile else _BASE}from: {written(base)}\n\n"
    text += _to_write(dockerfile, found, specs) if dockerfile else _STEPS
    _check(name, text, where, verbs)
    return text


def _check(name: str, text: str, where: str, verbs: Verbs) -> None:
    """Raises UsageError for a base that no spec may name."""
    from builder.spec.reading import Given, Reading

    given = Given(verbs, {}, {}, {}, host_platform())
    try:
        (spec,) = Reading(Source(f"{name}.yaml", text), given).specs()
        base = spec.base
    except SpecErrors as error:
        raise UsageError(f"{where} {error.errors[0].what}", error.errors[0].hint) from None
    if base.kind == "image":
        raise UsageError(f"{where} {quote(str(base))} is another spec, and there is none yet")


def _dockerfile(folder: str) -> tuple[str | None, list[Instruction]]:
    for name in NAMES:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            text = read_bytes(path, "Dockerfile").decode("utf-8", "replace")
            return name, list(instructions(text))
    return None, []


def _to_write(dockerfile: str, found: Sequence[Instruction], specs: str) -> str:
    lines = [f"# Steps and config are to be written; {dockerfile} says:\n"]
    lines += [f"#   {_shown(each)}\n" for each in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"#   ... and {len(found) - _SHOWN} more\n")
    return "".join(lines) + _BY_HAND.format(specs=written(specs + "/"))


def _shown(instruction: Instruction) -> str:
    text = f"{instruction.word} {instruction.rest}"
    text = "".join(each if each.isprintable() else " " for each in text)
    return text if len(text) <= 120 else f"{text[:117]}..."
