"""Arguments: every command with its options, and the function that runs it."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence

_TOP = """\
Build container images from YAML specs: cached layers, no daemon, and a plan that says beforehand
what will be rebuilt and why. IMAGE is a spec's name (`site` for specs/site.yaml) or a spec file.
"""


class _Parser(argparse.ArgumentParser):
    """One line for a usage error, as for any other error."""

    def error(self, message: str) -> None:  # type: ignore[override]  # argparse types it NoReturn
        from builder.errors import UsageError

        raise UsageError(message, f"{self.prog} --help tells how it is used")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The namespace of a command; its `run` is the function to call with it."""
    parser = _Parser(prog="builder", description=_TOP, allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, parser_class=_Parser, prog="builder"
    )  # a given prog spares argparse the making of a help text

    def command(name: str, module: str, help_: str, *groups: Callable[..., None]) -> _Parser:
        sub: _Parser = commands.add_parser(
            name, help=help_, description=help_[0].upper() + help_[1:] + ".", allow_abbrev=False
        )
        sub.set_defaults(run=_lazy(module, name))
        for group in groups:
            group(sub)
        return sub

    plan = command("plan", "plan", "say what would be built, what reused, and why",
                   _images, _project, _common)  # fmt: skip
    plan.add_argument("--json", action="store_true", help="one JSON document on stdout")
    plan.add_argument("--exit-code", action="store_true", help="3 when something would be built")

    build = command("build", "build", "build images and what they stand on",
                    _images, _project, _common, _running)  # fmt: skip
    build.add_argument(
        "--output", "-o", action="append", default=[], metavar="WHERE",
        help="also write the image: oci:DIR[:tag], docker-archive:FILE[:tag], oci-archive:FILE",
    )  # fmt: skip
    build.add_argument("--push", action="store_true", help="push to the spec's tags")
    build.add_argument("--json", action="store_true", help="one JSON document on stdout")
    build.add_argument("--iidfile", metavar="FILE", help="write the manifest digest there")
    build.add_argument("--metadata-file", metavar="FILE", help="write the JSON document there")
    build.add_argument(
        "--depfile", metavar="FILE", help="write a make rule with every file that was looked at"
    )

    why = command("why", "plan", "name the first input that differs from the last build",
                  _project, _common)  # fmt: skip
    why.add_argument("image", metavar="IMAGE")
    why.add_argument("step", metavar="STEP", nargs="?", help="a step's name or number")

    images = command("images", "images", "list the images in the store", _common)
    images.add_argument("--json", action="store_true")
    for name, text in (
        ("inspect", "print an image's manifest and config as JSON"),
        ("history", "list an image's layers and how each was made"),
    ):
        sub = command(name, "images", text, _common)
        sub.add_argument("image", metavar="IMAGE")
        if name == "history":
            sub.add_argument("--json", action="store_true")
    tag = command("tag", "images", "give an image in the store another name", _common)
    tag.add_argument("image", metavar="IMAGE")
    tag.add_argument("name", metavar="NAME")
    rmi = command("rmi", "images", "forget an image's name; `cache gc` frees its layers", _common)
    rmi.add_argument("names", metavar="IMAGE", nargs="+")

    push = command("push", "registry", "push images to registries", _project, _common)
    push.add_argument("image", metavar="IMAGE")
    push.add_argument("references", metavar="REF", nargs="*", help="default: the spec's tags")
    push.add_argument("--json", action="store_true")
    pull = command("pull", "registry", "pull an image into the store", _common, _registry)
    pull.add_argument("reference", metavar="REF")
    pull.add_argument("--platform", metavar="OS/ARCH", help="default: this machine's")
    load = command("load", "engine", "load an image into a Docker engine", _project, _common)
    load.add_argument("image", metavar="IMAGE")
    load.add_argument("--tag", "-t", action="append", default=[], help="default: the spec's tags")
    load.add_argument("--json", action="store_true")
    search = command("search", "engine", "search for images", _common, _registry)
    search.add_argument("term", metavar="TERM")
    search.add_argument(
        "--registry", metavar="HOST", help="its catalogue and tags; default: the engine's search"
    )
    search.add_argument("--json", action="store_true")

    command("lint", "specs", "check spec files", _images, _project, _common)
    command("schema", "specs", "print the JSON Schema of spec files")
    render = command("render", "specs", "print a spec after Jinja", _project, _common)
    render.add_argument("image", metavar="IMAGE")

    cache = command("cache", "cache", "look after the store")
    actions = cache.add_subparsers(
        metavar="ACTION", required=True, parser_class=_Parser, prog="builder cache"
    )
    for name, text in (
        ("ls", "say what the store holds and how much"),
        ("check", "verify every blob and record"),
        ("gc", "remove what is not used"),
    ):
        sub = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        _common(sub)
        sub.set_defaults(run=_lazy("cache", name))
        if name == "check":
            sub.add_argument("--repair", action="store_true", help="take out what is corrupt")
        if name == "gc":
            sub.add_argument("--max-size", metavar="SIZE", help="keep at most this much, as 20GB")
            sub.add_argument("--max-age", metavar="AGE", help="remove what is unused so long: 30d")
            sub.add_argument("--dry-run", action="store_true", help="only say what would go")

    doctor = command("doctor", "doctor", "say which executor works here, and why others do not",
                     _common)  # fmt: skip
    doctor.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def _lazy(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """The function `name` of a module of this room, imported only when it runs."""

    def run(arguments: argparse.Namespace) -> int:
        function = getattr(importlib.import_module(f"builder.cli.{module}"), name)
        return int(function(arguments) or 0)

    return run


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from builder.version import __version__

        parser.exit(message=f"builder {__version__}\n")


def _images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="default: every spec")


def _project(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("project")
    group.add_argument("--specs", metavar="DIR", default="specs", help="default: specs")
    group.add_argument("--context", metavar="DIR", help="default: the folder that holds specs")
    group.add_argument(
        "--set", action="append", default=[], metavar="K=V", dest="sets", help="set a variable"
    )
    group.add_argument(
        "--vars-file", action="append", default=[], metavar="FILE", help="variables from YAML"
    )
    group.add_argument("--platform", metavar="OS/ARCH", help="default: this machine's")
    group.add_argument(
        "--pull", nargs="?", const="always", default="missing",
        choices=("always", "missing", "never"), help="make or fetch bases again",
    )  # fmt: skip
    group.add_argument(
        "--compression", metavar="CODEC[:LEVEL]", default="gzip",
        help="of layers that are built: gzip, zstd or none; default: gzip",
    )  # fmt: skip
    _registry(parser)


def _registry(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("registries")
    group.add_argument(
        "--insecure-registry", action="append", default=[], metavar="HOST[:PORT]",
        help="allow plain http and unknown certificates there",
    )  # fmt: skip


def _common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("common")
    group.add_argument(
        "--cache-dir", metavar="DIR", help="default: $BUILDER_CACHE_DIR, else the user's cache"
    )
    group.add_argument(
        "--progress", default="auto", choices=("auto", "tty", "plain", "json", "quiet"),
        help="how progress is shown on stderr; default: auto",
    )  # fmt: skip


def _running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("command steps")
    group.add_argument(
        "--executor", default="auto", choices=("auto", "bwrap", "runc", "docker", "chroot"),
        help="what runs them; default: auto, the first of these that works",
    )  # fmt: skip
