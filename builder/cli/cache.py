"""`builder cache ls`, `check`, `gc`, `rm`, `export`, `import`."""

from __future__ import annotations

import argparse
import re
import sys
import time

from builder.cli import screen, wiring
from builder.errors import UsageError
from builder.oci.image import host_platform, parse_platform
from builder.spec.syntax import NAME
from builder.store.store import Store
from builder.ui import human
from builder.ui.tables import table

_SIZES = {"": 1, "B": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _store(arguments: argparse.Namespace) -> Store:
    return wiring.open_store(arguments, screen.renderer("plain"))


def ls(arguments: argparse.Namespace) -> int:
    from builder.store.caches import listed
    from builder.store.usage import usage

    wiring.become_root()  # to look into folders of steps' users
    store = _store(arguments)
    found = usage(store)
    width, now = screen.width(), time.time()
    parts = [
        f"{store.root}: {human.size(found.total)}\n",
        table(
            ("KIND", "NUMBER", "SIZE"),
            [(each.kind, str(each.number), human.size(each.size)) for each in found.kinds],
            right=("NUMBER", "SIZE"),
            width=width,
        ),
    ]
    if found.images:
        rows = [
            (
                each.name.name,
                human.size(each.size),
                human.size(each.shared),
                human.ago(now - each.used),
                str(each.name.platform) or "all",
                each.name.project or "-",
            )
            for each in found.images
        ]
        header = ("IMAGE", "SIZE", "SHARED", "LAST USED", "PLATFORM", "PROJECT")
        parts.append(table(header, rows, right=("SIZE", "SHARED"), width=width))
    if cached := listed(store):
        folders = [
            (each.name, human.size(each.size), human.ago(now - each.used), each.platform)
            for each in cached
        ]
        parts.append(
            table(("CACHE", "SIZE", "LAST USED", "PLATFORM"), folders, right=("SIZE",), width=width)
        )
    if found.layers:
        layers = [
            (each.digest[7:19], human.size(each.size), " ".join(each.images) or "-")
            for each in found.layers
        ]
        parts.append(table(("BLOB", "SIZE", "IMAGES"), layers, right=("SIZE",), width=width))
    sys.stdout.write("\n".join(parts))
    return 0


def check(arguments: argparse.Namespace) -> int:
    """1 when something is wrong and was not repaired."""
    from builder.make.examine import examine
    from builder.store.check import check as check_store

    if arguments.repair or arguments.deep:
        wiring.become_root()
    store = _store(arguments)
    problems = check_store(store, repair=arguments.repair)
    problems += examine(store, deep=arguments.deep, repair=arguments.repair)
    store.close()
    for problem in problems:
        sys.stdout.write(f"{problem.text}{' (repaired)' if problem.repaired else ''}\n")
    left = sum(not problem.repaired for problem in problems)
    sys.stdout.write(f"{len(problems)} problems, {left} left\n" if problems else "all is well\n")
    if left and not arguments.repair:
        sys.stdout.write("`builder cache check --repair` takes them out; builds make them again\n")
    return 1 if left else 0


def gc(arguments: argparse.Namespace) -> int:
    from builder.containers import failed
    from builder.store.gc import MAX_AGE, default_size
    from builder.store.gc import gc as collect

    if arguments.all and (arguments.max_size or arguments.max_age):
        raise UsageError("--all leaves nothing that --max-size or --max-age would", "leave one out")
    size = parse_size(arguments.max_size) if arguments.max_size else None
    age = parse_age(arguments.max_age) if arguments.max_age else MAX_AGE
    wiring.become_root()  # what cannot be removed without it is told of
    store = _store(arguments)
    age = 0 if arguments.all else age
    states = failed.collect(store, age, dry_run=arguments.dry_run)
    report = collect(
        store,
        max_size=default_size(store) if size is None else size,
        max_age=age,
        dry_run=arguments.dry_run,
    )
    verb = "would free" if arguments.dry_run else "freed"
    count = human.count(report.removed + len(states), "thing")
    sys.stdout.write(
        f"{verb} {human.size(report.freed + sum(states))} ({count});"
        f" {human.size(report.kept)} stay\n"
    )
    return 0


def rm(arguments: argparse.Namespace) -> int:
    from builder.store.caches import remove

    wiring.become_root()
    store = _store(arguments)
    with store.live():
        platform = _platform(arguments) if arguments.platform else None
        if not remove(store, arguments.name, platform):
            raise UsageError(f"no cache {arguments.name!r}", "builder cache ls tells all of them")
    return 0


def export(arguments: argparse.Namespace) -> int:
    from contextlib import nullcontext

    from builder.make.caches import export as write
    from builder.transport.target import writing

    wiring.become_root()
    store, file = _store(arguments), arguments.file
    opened = nullcontext(sys.stdout.buffer) if file == "-" else writing(file, sync=False)
    try:
        with store.live(), opened as out:
            write(store, arguments.name, _platform(arguments), out)
    except OSError as error:
        raise UsageError(f"cannot write {file!r}: {error.strerror}") from error
    return 0


def import_(arguments: argparse.Namespace) -> int:
    from builder.make.caches import import_ as read

    wiring.become_root()
    store = _store(arguments)
    if not re.fullmatch(NAME, arguments.name):
        raise UsageError(f"{arguments.name!r} is no name of a cache, expected letters and digits")
    try:
        with store.live(), open(arguments.file, "rb") as archive:
            number = read(store, arguments.name, _platform(arguments), archive)
    except OSError as error:
        raise UsageError(f"cannot read {arguments.file!r}: {error.strerror}") from error
    sys.stdout.write(f"cache {arguments.name}: {human.count(number, 'file')}\n")
    return 0


def _platform(arguments: argparse.Namespace) -> str:
    return str(parse_platform(arguments.platform) if arguments.platform else host_platform())


def parse_size(text: str) -> int:
    """`20GB`, `500M`, `1.5T`: bytes, in powers of 1000."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)B?", text.upper())
    if not match:
        raise UsageError(f"{text!r} is not a size, expected something like 20GB")
    return int(float(match[1]) * _SIZES[match[2]])


def parse_age(text: str) -> float:
    """`12h`, `30d`: seconds."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text.lower())
    if not match:
        raise UsageError(f"{text!r} is not an age, expected something like 12h or 30d")
    return float(match[1]) * _AGES[match[2]]
