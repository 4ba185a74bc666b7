"""Options from the arguments and the environment: the one place that reads the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.errors import ExecutorError, UsageError
from builder.events import Emit
from builder.oci.image import LAST_SECOND, parse_platforms
from builder.store.store import Store

if TYPE_CHECKING:
    from builder.project import Options
    from builder.secrets.given import Given


def options(arguments: argparse.Namespace) -> Options:
    from builder.project import Options  # not above: push, pull and tag need none of the planner

    codec, _, level = arguments.compression.partition(":")
    if codec not in ("gzip", "zstd", "none") or (level and not level.isdigit()):
        raise UsageError(
            f"--compression {arguments.compression!r}: expected gzip, zstd or none, and a level"
            " after a colon"
        )
    if level:
        from builder.layer.compress import check_level

        check_level(codec, int(level))
    return Options(
        cache_dir=cache_dir(arguments),
        specs=arguments.specs,
        context=arguments.context,
        variables=pairs(arguments.sets),
        vars_files=tuple(arguments.vars_file),
        environ=os.environ,
        platforms=parse_platforms(arguments.platform),
        allow_foreign=arguments.allow_foreign,
        pull=arguments.pull,
        no_cache=getattr(arguments, "no_cache", False),
        codec=codec,
        level=int(level) if level else None,
        epoch=epoch(),
        executor=getattr(arguments, "executor", None),
        insecure_registries=tuple(arguments.insecure_registry),
        jobs=_jobs(getattr(arguments, "jobs", None)),
        keep_going=getattr(arguments, "keep_going", False),
        target=getattr(arguments, "target", ""),
        ignore_file=getattr(arguments, "ignore_file", ".dockerignore"),
        secrets=_secrets(arguments),
        tests=not getattr(arguments, "no_tests", False),
        test_names=tuple(getattr(arguments, "names_held", ())),
        test_again=getattr(arguments, "again", False) or getattr(arguments, "no_cache", False),
        ssh=_ssh(arguments),
    )


def _secrets(arguments: argparse.Namespace) -> Mapping[str, Given]:
    texts = getattr(arguments, "secrets", [])
    if not texts:
        return {}
    from builder.secrets.given import parse_secrets

    return parse_secrets(texts, os.environ)


def _ssh(arguments: argparse.Namespace) -> Mapping[str, str]:
    texts = getattr(arguments, "ssh", [])
    if not texts:
        return {}
    from builder.secrets.given import parse_ssh

    return parse_ssh(texts)


def _jobs(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:6]) <= 1000:
        raise UsageError(f"--jobs {text!r}: expected a number from 1 to 1000")
    return int(text)


def project_name(arguments: argparse.Namespace) -> str:
    from builder.project import Project

    return Project(options(arguments)).name


def open_store(arguments: argparse.Namespace, emit: Emit) -> Store:
    return Store(cache_dir(arguments), emit)


def become_root() -> ExecutorError | None:
    """As an ordinary user: enter a user namespace with the user's subordinate ids, to whom files
    below the store belong that command steps left. Gives why that is not possible."""
    if os.geteuid() == 0:
        return None
    from builder.executor.userns import become_root as enter

    try:
        enter()
    except ExecutorError as error:
        return error
    return None


def cache_dir(arguments: argparse.Namespace) -> str:
    path = arguments.cache_dir or os.environ.get("BUILDER_CACHE_DIR")
    if path:
        return str(path)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "builder")


def epoch() -> int | None:
    """What SOURCE_DATE_EPOCH says; None: nothing."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) > LAST_SECOND:
        raise UsageError(
            f"SOURCE_DATE_EPOCH {text!r} is not a number of seconds since 1970, up to the year 9999"
        )
    return int(text)


def pairs(sets: list[str]) -> dict[str, str]:
    found = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {text!r}: expected NAME=VALUE")
        found[name] = value
    return found
