"""Options that several commands take, as functions that add them to a parser."""

from __future__ import annotations

import argparse

PULL = ("always", "missing", "never")


def as_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", metavar="IMAGE", help="a spec's name or file, or what the store has"
    )


def images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="default: every spec")
    parser.add_argument(
        "--file", "-f", action="append", default=[], metavar="FILE", dest="files",
        help="a spec file, as IMAGE may be one",
    )  # fmt: skip


def no_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-cache", action="store_true",
        help="make every step of the images again, and of their stages; --pull: bases too",
    )  # fmt: skip


def no_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-build", action="store_true", help="refuse a spec that is not built as it stands now"
    )


def target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        metavar="STAGE",
        default="",
        help="the stage of a Dockerfile; default: its last",
    )


def project(parser: argparse.ArgumentParser) -> None:
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
    registry(parser)


def registry(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("registries")
    group.add_argument(
        "--insecure-registry", action="append", default=[], metavar="HOST[:PORT]",
        help="allow plain http and unknown certificates there",
    )  # fmt: skip


def common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("common")
    group.add_argument(
        "--cache-dir", metavar="DIR", help="default: $BUILDER_CACHE_DIR, else the user's cache"
    )
    group.add_argument(
        "--progress", default="auto", choices=("auto", "tty", "plain", "json", "quiet"),
        help="how progress is shown on stderr; default: auto",
    )  # fmt: skip


def running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("command steps")
    group.add_argument(
        "--executor", choices=("auto", "sandbox", "runc", "docker", "chroot"),
        help="what runs them; default: auto, the first of these that works",
    )  # fmt: skip


def secrets(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("secrets")
    group.add_argument(
        "--secret", action="append", default=[], metavar="NAME=WHERE", dest="secrets",
        help="a file, or env:VARIABLE, that holds the secret NAME; also id=NAME,src=FILE",
    )  # fmt: skip
    group.add_argument(
        "--ssh", action="append", default=[], metavar="NAME[=WHERE]",
        help="an agent's socket or key files for `ssh` mounts; default: $SSH_AUTH_SOCK",
    )  # fmt: skip


ANY_IMAGE = (no_build, target, project, secrets, common, running)
"""Options where IMAGE may be a spec, which is built if need be, a reference or a digest."""
