"""Arguments: every command with its options, and the function that runs it."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from builder.errors import UsageError

PULL = ("always", "missing", "never")

_TOP = """\
Build container images from YAML specs: cached layers, no daemon, and a plan that says beforehand
what will be rebuilt and why. IMAGE is a spec's name (`site` for specs/site.yaml) or a spec file;
for push, load, inspect, history and tag also the reference or the digest of an image in the store.
"""


class _Parser(argparse.ArgumentParser):
    """One line for a usage error, as for any other error."""

    width = 90
    """Columns of help texts. Given, because argparse would ask the terminal at every argument."""

    def __init__(self, **settings: Any) -> None:
        def formatter(prog: str) -> argparse.HelpFormatter:
            return argparse.HelpFormatter(prog, max_help_position=28, width=self.width)

        super().__init__(formatter_class=formatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        if message.startswith("argument ACTION: invalid choice: "):
            from builder.cli.words import no_action

            raise no_action(self.prog, message.split("'")[1])
        raise UsageError(message, f"{self.prog} --help tells how it is used")


class Command(NamedTuple):
    """A command: the module of this room that has it as a function, a line of help, its options."""

    module: str
    help: str
    options: tuple[Callable[[argparse.ArgumentParser], object], ...] = ()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The namespace of a command; its `run` is the function to call with it."""
    if argv and argv[0] not in COMMANDS and not argv[0].startswith("-"):
        from builder.cli.words import no_command

        raise no_command(argv[0], COMMANDS)
    parser = _Parser(prog="builder", description=_TOP)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    # a given prog spares argparse the making of a help text
    commands = parser.add_subparsers(metavar="COMMAND", required=True, prog="builder")
    # with a command named, only its options are made: all of them take longer than many a build
    wanted = argv[0] if argv and argv[0] in COMMANDS else None
    for name in [wanted] if wanted else COMMANDS:
        command = COMMANDS[name]
        text = command.help[0].upper() + command.help[1:] + "."
        sub = commands.add_parser(name, help=command.help, description=text)
        sub.set_defaults(run=_lazy(command.module, name), parser=sub)
        for options in command.options:
            options(sub)
    found, others = parser.parse_known_args(list(_plain(argv)))
    if others:
        from builder.cli.words import not_taken

        raise not_taken(found.parser, others[0])
    if getattr(found, "files", None):
        found.images += found.files
    if hasattr(found, "target") and hasattr(found, "specs") and _may_be_docker(found):
        from builder.cli.dockerfile import prepare

        prepare(found)
    return found


def _may_be_docker(found: argparse.Namespace) -> bool:
    """Whether a Dockerfile is meant, or a folder that could have one."""
    names = found.images if hasattr(found, "images") else [found.image]
    return (
        bool(found.target)
        or any(
            "dockerfile" in name.lower() or "containerfile" in name.lower() or os.path.isdir(name)
            for name in (*names, *getattr(found, "files", ()))
        )
        or any(not name.endswith((".yaml", ".yml")) for name in getattr(found, "files", ()))
    )


def _plain(argv: Sequence[str]) -> Iterator[str]:
    """`--pull IMAGE` means `--pull=always IMAGE`: argparse would take IMAGE for its value."""
    for number, text in enumerate(argv):
        bare = text == "--pull" and (number + 1 == len(argv) or argv[number + 1] not in PULL)
        yield "--pull=always" if bare else text


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", metavar="IMAGE", help="a spec's name or file, or what the store has"
    )


def _no_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-build", action="store_true", help="refuse a spec that is not built as it stands now"
    )


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default=".", help="default: this one"
    )
    parser.add_argument(
        "--from", metavar="BASE", dest="base",
        help="what the image stands on; default: a Dockerfile's base, else scratch",
    )  # fmt: skip
    parser.add_argument("--specs", metavar="DIR", default="specs", help="of FOLDER; default: specs")


def _plan(parser: argparse.ArgumentParser) -> None:
    _json(parser)
    parser.add_argument("--exit-code", action="store_true", help="3 when something would be built")


def _build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", "-o", action="append", default=[], metavar="WHERE",
        help="also write the image: oci:DIR[:tag], docker-archive:FILE[:tag], oci-archive:FILE;"
        " or its files alone: dir:DIR, tar:FILE",
    )  # fmt: skip
    parser.add_argument(
        "--tag", "-t", action="append", default=[], metavar="NAME", dest="tags",
        help="also give the image this name in the store; with --push push it there",
    )  # fmt: skip
    parser.add_argument("--push", action="store_true", help="push to the spec's tags, and --tag's")
    parser.add_argument(
        "--jobs",
        "-j",
        metavar="N",
        help="do N things at once (default: as many as there are cores)",
    )
    parser.add_argument(
        "--keep-going", "-k", action="store_true",
        help="when an image fails, build all that does not stand on it",
    )  # fmt: skip
    _json(parser)
    parser.add_argument("--iidfile", metavar="FILE", help="write the manifest digest there")
    parser.add_argument("--metadata-file", metavar="FILE", help="write the JSON document there")
    parser.add_argument(
        "--depfile", metavar="FILE", help="write a make rule with every file that was looked at"
    )


def _why(parser: argparse.ArgumentParser) -> None:
    _image(parser)
    parser.add_argument("step", metavar="STEP", nargs="?", help="a step's name or number")


def _tag(parser: argparse.ArgumentParser) -> None:
    _image(parser)
    parser.add_argument("name", metavar="NAME", help="NAME[:TAG]")


def _rmi(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="IMAGE", nargs="+", help="a name or a digest")


def _push(parser: argparse.ArgumentParser) -> None:
    _image(parser)
    parser.add_argument("references", metavar="REF", nargs="*", help="default: the spec's tags")
    _json(parser)


def _pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help="[REGISTRY/]NAME[:TAG][@DIGEST]")
    parser.add_argument("--platform", metavar="OS/ARCH", help="default: this machine's")


def _load(parser: argparse.ArgumentParser) -> None:
    _image(parser)
    parser.add_argument("--tag", "-t", action="append", default=[], help="default: the spec's tags")
    _json(parser)


def _search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "term", metavar="TERM", help="what names hold; with --registry a repository"
    )
    parser.add_argument(
        "--registry", metavar="HOST", help="its catalogue and tags; default: the engine's search"
    )
    _json(parser)


def _index(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, prog="builder index")
    text = "join images that were built apart, one for each platform, to one image"
    sub = actions.add_parser("create", help=text, description=text[0].upper() + text[1:] + ".")
    sub.set_defaults(run=_lazy("index", "create"), parser=sub)
    sub.add_argument(
        "references", metavar="REF", nargs="+",
        help="an image or an index: of the store, of a layout (oci:DIR[:tag]), of a registry",
    )  # fmt: skip
    sub.add_argument(
        "--tag", "-t", action="append", default=[], metavar="NAME", help="what it is called"
    )
    sub.add_argument(
        "--push", action="store_true", help="push it to its names, instead of into the store"
    )
    _json(sub)
    _common(sub)
    _registry(sub)


def _cache(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, prog="builder cache")
    for name, text in (
        ("ls", "say what the store holds and how much"),
        ("check", "verify every blob and record"),
        ("gc", "remove what is not used"),
        ("rm", "remove a cache that steps mount"),
        ("export", "write a cache that steps mount as a tar"),
        ("import", "have a tar's files in a cache that steps mount"),
    ):
        sub = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        _common(sub)
        run = _lazy("cache", "import_" if name == "import" else name)
        sub.set_defaults(run=run, parser=sub)
        if name in ("rm", "export", "import"):
            sub.add_argument("name", metavar="NAME", help="as in `mounts: [{cache: NAME}]`")
            sub.add_argument("--platform", metavar="OS/ARCH", help="default: this machine's")
        if name == "export":
            sub.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: stdout")
        if name == "import":
            sub.add_argument("file", metavar="FILE", help="a tar, compressed or not")
        if name == "check":
            sub.add_argument("--repair", action="store_true", help="take out what is corrupt")
            sub.add_argument(
                "--deep",
                action="store_true",
                help="hold layers against keys, and path tables and unpacked trees against layers",
            )
        if name == "gc":
            sub.add_argument("--max-size", metavar="SIZE", help="keep at most this much, as 20GB")
            sub.add_argument("--max-age", metavar="AGE", help="remove what is unused so long: 30d")
            sub.add_argument("--dry-run", action="store_true", help="only say what would go")


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
    parser.add_argument(
        "--file", "-f", action="append", default=[], metavar="FILE", dest="files",
        help="a spec file, as IMAGE may be one",
    )  # fmt: skip


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        metavar="STAGE",
        default="",
        help="the stage of a Dockerfile; default: its last",
    )


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        metavar="FILE",
        nargs="*",
        help="a Dockerfile, or its folder; or bake files, or compose files",
    )
    parser.add_argument(
        "--output", "-o", metavar="PATH", help="the spec, or the folder for those; default: stdout"
    )
    parser.add_argument("--force", action="store_true", help="write over a spec that is there")
    parser.add_argument("--context", metavar="DIR", help="default: the file's folder")
    parser.add_argument(
        "--idiomatic", action="store_true",
        help="apt-get lines as `apt` steps, copies without the checkout's modes and times",
    )  # fmt: skip
    _target(parser)


def _project(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("project")
    group.add_argument("--specs", metavar="DIR", default="specs", help="default: specs")
    group.add_argument("--context", metavar="DIR", help="default: the folder that holds specs")
    group.add_argument(
        "--set", action="append", default=[], metavar="K=V", dest="sets",
        help="set a variable; IMAGE.K=V: of that image alone",
    )  # fmt: skip
    group.add_argument(
        "--build-arg", action="append", metavar="K=V", dest="sets", help="the same as --set"
    )
    group.add_argument(
        "--vars-file", action="append", default=[], metavar="FILE", help="variables from YAML"
    )
    group.add_argument(
        "--platform", action="append", default=[], metavar="OS/ARCH[,...]",
        help="what to build for, several make an index; default: what the spec or the project file"
        " says, else this machine's",
    )  # fmt: skip
    group.add_argument(
        "--allow-foreign", action="store_true",
        help="take a base whose programs are for another CPU than the platform's",
    )  # fmt: skip
    group.add_argument(
        "--pull", nargs="?", const="always", default="missing",
        choices=PULL, help="make or fetch bases again",
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
        "--executor", choices=("auto", "sandbox", "runc", "docker", "chroot"),
        help="what runs them; default: auto, the first of these that works",
    )  # fmt: skip


def _secrets(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("secrets")
    group.add_argument(
        "--secret", action="append", default=[], metavar="NAME=WHERE", dest="secrets",
        help="a file, or env:VARIABLE, that holds the secret NAME; also id=NAME,src=FILE",
    )  # fmt: skip
    group.add_argument(
        "--ssh", action="append", default=[], metavar="NAME[=WHERE]",
        help="an agent's socket or key files for `ssh` mounts; default: $SSH_AUTH_SOCK",
    )  # fmt: skip


_ANY_IMAGE = (_no_build, _target, _project, _secrets, _common, _running)
"""Options where IMAGE may be a spec, which is built if need be, a reference or a digest."""

COMMANDS = {
    "convert": Command(
        "dockerfile", "write specs of a Dockerfile, of bake or compose files", (_convert,)
    ),
    "init": Command("init", "write a first spec, and the project file beside it", (_init,)),
    "plan": Command(
        "plan",
        "say what would be built, what reused, and why",
        (_images, _plan, _target, _project, _secrets, _common),
    ),
    "build": Command(
        "build",
        "build images and what they stand on",
        (_images, _build, _target, _project, _secrets, _common, _running),
    ),
    "why": Command(
        "plan",
        "name the first input that differs from the last build",
        (_why, _target, _project, _secrets, _common),
    ),
    "images": Command("images", "list the images in the store", (_json, _common)),
    "inspect": Command(
        "images", "print an image's manifest and config as JSON", (_image, *_ANY_IMAGE)
    ),
    "history": Command(
        "images", "list an image's layers and how each was made", (_image, _json, *_ANY_IMAGE)
    ),
    "tag": Command("images", "give an image another name in the store", (_tag, *_ANY_IMAGE)),
    "rmi": Command(
        "images", "forget an image's name; `cache gc` frees its layers", (_rmi, _project, _common)
    ),
    "push": Command("registry", "push images to registries", (_push, *_ANY_IMAGE)),
    "pull": Command("registry", "pull an image into the store", (_pull, _common, _registry)),
    "index": Command("index", "join images of several platforms", (_index,)),
    "load": Command("engine", "load an image into a Docker engine", (_load, *_ANY_IMAGE)),
    "search": Command("engine", "search for images", (_search, _common, _registry)),
    "lint": Command("specs", "check spec files", (_images, _target, _project, _common)),
    "schema": Command("specs", "print the JSON Schema of spec files"),
    "render": Command("specs", "print a spec after Jinja", (_image, _project, _common)),
    "cache": Command("cache", "look after the store", (_cache,)),
    "doctor": Command(
        "doctor", "say which executor works here, and why others do not", (_json, _common)
    ),
}
"""In the order of the help text."""
