"""The table of commands: what each is for, its own options, and the module that runs it. Help,
parsing, completion and the man pages are made of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import NamedTuple

from builder.cli.options import (
    ANY_IMAGE,
    as_json,
    common,
    image,
    images,
    no_cache,
    project,
    registry,
    running,
    secrets,
    target,
)

SHELLS = ("bash", "zsh", "fish")

KINDS = {
    "specs": "Write specs",
    "build": "Build",
    "look": "Look at images",
    "run": "Run containers",
    "share": "Share images",
    "here": "Look after this machine",
}
"""Headings of the help text, in its order."""


class Command(NamedTuple):
    """A command, or an action of one: `module` of this room has it as a function of its name."""

    kind: str  # of KINDS
    module: str
    help: str  # a line
    options: tuple[Callable[[argparse.ArgumentParser], object], ...] = ()
    passes_on: bool = False
    """What stands behind IMAGE is another program's, however it looks."""
    passes_on_behind_dashes: bool = False
    """What stands behind `--` is."""
    actions: Mapping[str, Command] = {}
    """What its next word says, of a command that does nothing by itself."""


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
    as_json(parser)
    parser.add_argument("--exit-code", action="store_true", help="3 when something would be built")


def _jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        "-j",
        metavar="N",
        help="do N things at once (default: as many as there are cores)",
    )


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
    _jobs(parser)
    parser.add_argument(
        "--keep-going", "-k", action="store_true",
        help="when an image fails, build all that does not stand on it",
    )  # fmt: skip
    parser.add_argument(
        "--watch", action="store_true",
        help="go on, and build again when a file, a spec or a template changes",
    )  # fmt: skip
    parser.add_argument(
        "--shell-on-failure", action="store_true",
        help="on a terminal: when a step fails, a shell where it did",
    )  # fmt: skip
    parser.add_argument(
        "--no-tests", action="store_true", help="name, push and write images untested"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="print the digest alone")
    as_json(parser)
    parser.add_argument("--iidfile", metavar="FILE", help="write the manifest digest there")
    parser.add_argument("--metadata-file", metavar="FILE", help="write the JSON document there")
    parser.add_argument(
        "--depfile", metavar="FILE", help="write a make rule with every file that was looked at"
    )


def _test(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-k", action="append", default=[], metavar="TEXT", dest="names_held",
        help="only tests whose name holds this",
    )  # fmt: skip
    parser.add_argument(
        "--again", action="store_true", help="also those that the image has passed before"
    )
    _jobs(parser)
    parser.add_argument("--junit", metavar="FILE", help="write the results there, as JUnit's XML")
    as_json(parser)


def _why(parser: argparse.ArgumentParser) -> None:
    image(parser)
    parser.add_argument("step", metavar="STEP", nargs="?", help="a step's name or number")
    parser.add_argument(
        "--all", "-a", action="store_true", help="all that differs, small texts line by line"
    )


def _logs(parser: argparse.ArgumentParser) -> None:
    image(parser)
    parser.add_argument(
        "step", metavar="STEP", nargs="?",
        help="a step's name or number, or `base`; default: the one that failed, else all",
    )  # fmt: skip
    as_json(parser)


def _tag(parser: argparse.ArgumentParser) -> None:
    image(parser)
    parser.add_argument("name", metavar="NAME", help="NAME[:TAG]")


def _diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", metavar="A",
        help="a spec, what the store has, oci:DIR[:tag], oci-archive:FILE, docker-archive:FILE,"
        " docker-daemon:REF, docker://REF",
    )  # fmt: skip
    parser.add_argument(
        "other", metavar="B", nargs="?", help="another, alike; without it A is a container's name"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="SECTION[,...]",
        help="of files, packages, config and layers; the exit code goes by these",
    )  # fmt: skip
    parser.add_argument(
        "--text", action="store_true", help="the lines too in which text files differ"
    )
    as_json(parser)


def _path(parser: argparse.ArgumentParser) -> None:
    image(parser)
    parser.add_argument("path", metavar="PATH", help="absolute, or from the image's root")


def _tree(parser: argparse.ArgumentParser) -> None:
    image(parser)
    parser.add_argument("path", metavar="PATH", nargs="?", default="/", help="default: the root")
    parser.add_argument("--depth", metavar="N", default="2", help="folders deep; default: 2")
    parser.add_argument(
        "--all", action="store_true", help="all of a folder, not only its 20 largest"
    )
    as_json(parser)


def _rmi(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="IMAGE", nargs="+", help="a name or a digest")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be freed")


def _push(parser: argparse.ArgumentParser) -> None:
    image(parser)
    parser.add_argument("references", metavar="REF", nargs="*", help="default: the spec's tags")
    as_json(parser)


def _pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help="[REGISTRY/]NAME[:TAG][@DIGEST]")
    parser.add_argument("--platform", metavar="OS/ARCH", help="default: this machine's")


def _load(parser: argparse.ArgumentParser) -> None:
    image(parser)
    parser.add_argument("--tag", "-t", action="append", default=[], help="default: the spec's tags")
    as_json(parser)


def _search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "term", metavar="TERM", help="what names hold; with --registry a repository"
    )
    parser.add_argument(
        "--registry", metavar="HOST", help="its catalogue and tags; default: the engine's search"
    )
    as_json(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    image(parser)
    parser.add_argument("other", metavar="OTHER", nargs="?", help="another one, to be beside it")
    parser.add_argument(
        "--output", "-o", metavar="FILE", default="", help="the page; default: IMAGE.html"
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
    target(parser)


def _volumes(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--volume", "-v", action="append", default=[], metavar="HOST:PATH[:ro]", dest="volumes",
        help="a folder or file of this machine",
    )  # fmt: skip


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", metavar="IMAGE",
        help="a spec's name or file, what the store has, or container:NAME, one that is kept",
    )  # fmt: skip
    command = parser.add_argument(
        "argv", metavar="COMMAND", nargs="...", help="with its arguments; default: the image's"
    )
    command.required = False  # which argparse takes this kind for
    group = parser.add_argument_group("container")
    group.add_argument("--keep", metavar="NAME", help="keep what it changes, as this container")
    group.add_argument(
        "--env", "-e", action="append", default=[], metavar="NAME[=VALUE]",
        help="set a variable; without a value as it is here",
    )  # fmt: skip
    group.add_argument(
        "--env-file", action="append", default=[], metavar="FILE", help="variables, a line each"
    )
    group.add_argument("--user", "-u", metavar="USER[:GROUP]", help="default: the image's")
    group.add_argument(
        "--workdir", "-w", metavar="DIR", dest="working_dir", help="default: the image's"
    )
    group.add_argument(
        "--entrypoint", metavar="PROGRAM", help="instead of the image's, and without its command"
    )
    _volumes(group)
    group.add_argument(
        "--tmpfs", action="append", default=[], metavar="PATH[:size=SIZE]",
        help="an empty folder in memory",
    )  # fmt: skip
    group.add_argument(
        "--network", choices=("host", "none", "private"),
        help="default: host, this machine's; private: outward only",
    )  # fmt: skip
    group.add_argument(
        "--read-only", action="store_true", help="nothing can be written but volumes and memory"
    )
    group.add_argument(
        "--interactive", "-i", action="store_true", help="it reads stdin (default: on a terminal)"
    )
    group.add_argument(
        "--tty", "-t", action="store_true",
        help="it has a terminal (default: where stdin, stdout and stderr are one)",
    )  # fmt: skip
    group.add_argument("--timeout", metavar="TIME", help="end it after so long, as 90s")
    # as docker has it, and no other way here
    parser.add_argument("--rm", action="store_true", help=argparse.SUPPRESS)


def _shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?",
        help="a spec's name or file, IMAGE:STAGE, or without --at what the store has",
    )  # fmt: skip
    group = parser.add_argument_group(
        "shell", "Behind -- stands a program with its arguments, to run in the place of a shell."
    )
    group.add_argument(
        "--at", metavar="STEP",
        help="behind this step, its name or number, 0: the base; default: the last",
    )  # fmt: skip
    group.add_argument(
        "--failed", action="store_true",
        help="where a step of IMAGE failed, or of what failed last; changes there are kept",
    )  # fmt: skip
    group.add_argument("--shell", metavar="PROGRAM", help="default: /bin/bash, else the image's")
    group.add_argument("--user", "-u", metavar="USER[:GROUP]", help="default: the next step's")
    _volumes(group)
    group.add_argument("--keep", metavar="NAME", help="keep what is changed, as this container")
    parser.set_defaults(no_build=False)


def _cp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FROM", help="a path, or NAME:PATH in a container")
    parser.add_argument("target", metavar="TO", help="the other of the two")
    parser.add_argument(
        "--archive", "-a", action="store_true", help="keep owners, and modes as they are"
    )


def _ps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all", "-a", action="store_true", help="those that are kept, too, and do not run"
    )
    as_json(parser)


def _rm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="CONTAINER", nargs="+", help="its name")
    parser.add_argument("--force", "-f", action="store_true", help="end it, if it runs")


def _commit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", metavar="CONTAINER", help="a name of `builder ps -a`")
    parser.add_argument(
        "--message", "-m", metavar="TEXT", help="the step's name: what was done, on one line"
    )
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="the spec; default: specs/CONTAINER.yaml"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB",
        help="leave out what matches, by the rules of .gitignore",
    )  # fmt: skip
    parser.add_argument(
        "--from", metavar="BASE", dest="base",
        help="what the spec stands on; default: the container's image",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    as_json(parser)


def _create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "references", metavar="REF", nargs="+",
        help="an image or an index: of the store, of a layout (oci:DIR[:tag]), of a registry",
    )  # fmt: skip
    parser.add_argument(
        "--tag", "-t", action="append", default=[], metavar="NAME", help="what it is called"
    )
    parser.add_argument(
        "--push", action="store_true", help="push it to its names, instead of into the store"
    )
    as_json(parser)


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repair", action="store_true", help="take out what is corrupt")
    parser.add_argument(
        "--deep",
        action="store_true",
        help="hold layers against keys, and path tables and unpacked trees against layers",
    )


def _gc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-size", metavar="SIZE",
        help="remove what was not used for longest until at most this much is left; default: 20GB,"
        " of a small disk a fifth",
    )  # fmt: skip
    parser.add_argument(
        "--max-age", metavar="AGE", help="remove what was not used for so long; default: 7d"
    )
    parser.add_argument(
        "--all", action="store_true", help="remove all that no name and no kept container holds"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")


def _mounted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="CACHE", help="as in `mounts: [{cache: NAME}]`")
    parser.add_argument("--platform", metavar="OS/ARCH", help="default: this machine's")


def _export(parser: argparse.ArgumentParser) -> None:
    _mounted(parser)
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: stdout")


def _import(parser: argparse.ArgumentParser) -> None:
    _mounted(parser)
    parser.add_argument("file", metavar="FILE", help="a tar, compressed or not")


_CACHE = {
    "ls": Command("here", "cache", "say what the store holds and how much", (common,)),
    "check": Command("here", "cache", "verify every blob and record", (_check, common)),
    "gc": Command(
        "here", "cache", "remove what no name holds and was not used for long", (_gc, common)
    ),
    "rm": Command("here", "cache", "remove a cache that steps mount", (_mounted, common)),
    "export": Command(
        "here", "cache", "write a cache that steps mount as a tar", (_export, common)
    ),
    "import": Command(
        "here", "cache", "have a tar's files in a cache that steps mount", (_import, common)
    ),
}
_INDEX = {
    "create": Command(
        "share",
        "index",
        "join images that were built apart, one for each platform, to one image",
        (_create, common, registry),
    ),
}


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


def _man(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="for builder.1, builder-build.1, ...")


COMMANDS = {
    "init": Command(
        "specs", "init", "write a first spec, and the project file beside it", (_init,)
    ),
    "convert": Command(
        "specs", "dockerfile", "write specs of a Dockerfile, of bake or compose files", (_convert,)
    ),
    "lint": Command("specs", "specs", "check spec files", (images, target, project, common)),
    "render": Command("specs", "specs", "print a spec after Jinja", (image, project, common)),
    "schema": Command("specs", "specs", "print the JSON Schema of spec files"),
    "plan": Command(
        "build",
        "plan",
        "say what would be built, what reused, and why",
        (images, _plan, no_cache, target, project, secrets, common),
    ),
    "build": Command(
        "build",
        "build",
        "build images and what they stand on",
        (images, _build, no_cache, target, project, secrets, common, running),
    ),
    "test": Command(
        "build",
        "test",
        "build images and run their tests",
        (images, _test, target, project, secrets, common, running),
    ),
    "why": Command(
        "build",
        "why",
        "name the first input that differs from the last build",
        (_why, target, project, secrets, common),
    ),
    "logs": Command(
        "build", "logs", "print what an image's steps printed", (_logs, project, common)
    ),
    "images": Command("look", "images", "list the images in the store", (as_json, common)),
    "inspect": Command(
        "look", "images", "print an image's manifest and config as JSON", (image, *ANY_IMAGE)
    ),
    "report": Command(
        "look",
        "report",
        "write a page about an image, or two: layers, files, waste, steps, packages",
        (_report, *ANY_IMAGE),
    ),
    "history": Command(
        "look",
        "images",
        "list an image's layers and how each was made",
        (image, as_json, *ANY_IMAGE),
    ),
    "diff": Command(
        "look",
        "diff",
        "say in what two images differ, 3 when they do; or what a container changed",
        (_diff, *ANY_IMAGE),
    ),
    "tree": Command("look", "files", "list what takes the room in an image", (_tree, *ANY_IMAGE)),
    "cat": Command("look", "files", "print a file of an image", (_path, *ANY_IMAGE)),
    "blame": Command(
        "look",
        "files",
        "say which step put a file into an image, when and why",
        (_path, as_json, *ANY_IMAGE),
    ),
    "tag": Command("look", "images", "give an image another name in the store", (_tag, *ANY_IMAGE)),
    "rmi": Command(
        "look",
        "images",
        "forget an image's name; `cache gc` frees its layers",
        (_rmi, project, common),
    ),
    "run": Command(
        "run",
        "containers",
        "run a command in a container, which goes with it",
        (_run, *ANY_IMAGE),
        passes_on=True,
    ),
    "shell": Command(
        "run",
        "shell",
        "stand behind a step of an image, or where a step failed",
        (_shell, target, project, secrets, common, running),
        passes_on_behind_dashes=True,
    ),
    "ps": Command("run", "containers", "list containers", (_ps, common)),
    "cp": Command(
        "run", "containers", "copy files between a container and this machine", (_cp, common)
    ),
    "rm": Command("run", "containers", "remove containers", (_rm, common)),
    "commit": Command(
        "run",
        "commit",
        "write what was done in a container as a layer's file and a spec",
        (_commit, project, common),
    ),
    "search": Command("share", "engine", "search for images", (_search, common, registry)),
    "pull": Command("share", "registry", "pull an image into the store", (_pull, common, registry)),
    "push": Command("share", "registry", "push images to registries", (_push, *ANY_IMAGE)),
    "load": Command("share", "engine", "load an image into a Docker engine", (_load, *ANY_IMAGE)),
    "index": Command("share", "index", "join images of several platforms", actions=_INDEX),
    "cache": Command("here", "cache", "look after the store", actions=_CACHE),
    "completion": Command(
        "here", "completion", "print what lets a shell complete commands at TAB", (_completion,)
    ),
    "man": Command("here", "man", "write the man pages", (_man,)),
    "doctor": Command(
        "here", "doctor", "say which executor works here, and why others do not", (as_json, common)
    ),
}
"""By name, in the order of the help text."""
