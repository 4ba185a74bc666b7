"""apt's settings of this system: which sources a suite comes from, which proxies lead there.

Source: sources.list(5), both styles; apt.conf(5); os-release(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

_ONE_LINE = re.compile(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)")
_POCKETS = ("", "-updates", "-security", "/updates")
_OPTIONS = {"signed-by": "signed-by", "trusted": "trusted"}  # what is handed on
_SETTING = re.compile(
    r'Acquire::(?:https?|ftp|Check-\S+|Retries|ForceIPv[46]|Proxy\S*)(?:::\S+)? ".+";'
)
_LARGEST = 1 << 20  # bytes of a file that is read
_ALIASES = ("stable", "testing", "unstable", "sid", "oldstable")  # that a system may go by
_ROLLING = ("unstable", "sid", "experimental", "rc-buggy")  # they have no updates beside them


class Source(NamedTuple):
    uri: str
    suite: str
    components: tuple[str, ...]
    options: tuple[str, ...] = ()
    key: str = ""  # its OpenPGP key as deb822 holds it, lines that begin with a space

    def __str__(self) -> str:
        """A `deb` line; with a key, which no line can hold, a stanza of several lines."""
        if self.key:
            trusted = "".join(f"Trusted: {each[8:]}\n" for each in self.options)
            return (
                f"Types: deb\nURIs: {self.uri}\nSuites: {self.suite}\n"
                f"Components: {' '.join(self.components)}\n{trusted}Signed-By:\n{self.key}\n"
            )
        options = f"[{' '.join(self.options)}] " if self.options else ""
        return f"deb {options}{self.uri} {self.suite} {' '.join(self.components)}"


class Apt(NamedTuple):
    """`folder` is apt's /etc/apt."""

    folder: str = "/etc/apt"
    release: str = "/etc/os-release"
    vendors: str = "/usr/share/distro-info"  # a table of suites for each distribution

    def sources(self, suite: str) -> tuple[str, ...]:
        """The system's sources for a suite and its updates, as `deb` lines or deb822 stanzas. For
        a suite that the system does not follow, those of the system's own suite with the other's
        name; none for one that is known as another distribution's. Only archives with a `main`
        count: others may bear the suite's name as well."""
        found = self._of(suite)
        if not found:
            system, codename = self._system()
            if self._is_foreign(suite, system):
                return ()
            for own in (codename, *_ALIASES):
                found = _renamed(self._of(own), own, suite)
                if found:
                    break
        return tuple(dict.fromkeys(map(str, found)))

    def _of(self, suite: str) -> list[Source]:
        wanted = [suite + pocket for pocket in _POCKETS]
        found = [each for each in self._all() if each.suite in wanted and "main" in each.components]
        return found if any(each.suite == suite for each in found) else []

    def _system(self) -> tuple[str, str]:
        """The distribution's id and the codename of its release."""
        found = dict.fromkeys(("ID", "VERSION_CODENAME"), "")
        for line in _read(self.release).splitlines():
            name, _, value = line.partition("=")
            if name in found:
                found[name] = value.strip("\"'")
        return found["ID"], found["VERSION_CODENAME"]

    def _is_foreign(self, suite: str, system: str) -> bool:
        if not os.path.isdir(self.vendors):
            return False
        tables = sorted(name for name in os.listdir(self.vendors) if name.endswith(".csv"))
        holders = [name[:-4] for name in tables if suite in self._series(name)]
        return bool(holders) and system not in holders

    def _series(self, table: str) -> list[str]:
        rows = [line.split(",") for line in _read(os.path.join(self.vendors, table)).splitlines()]
        column = rows[0].index("series") if rows and "series" in rows[0] else len(rows)
        return [row[column] for row in rows[1:] if len(row) > column]

    def settings(self, dump: str) -> str:
        """Proxies, certificates and the like out of what `apt-config dump` prints, as apt.conf
        text, and where apt finds its passwords."""
        lines = [line for line in dump.splitlines() if _SETTING.fullmatch(line)]
        lines.append(f'Dir::Etc::netrc "{self.folder}/auth.conf";')
        lines.append(f'Dir::Etc::netrcparts "{self.folder}/auth.conf.d";')
        return "".join(f"{line}\n" for line in lines)

    def _all(self) -> Iterator[Source]:
        parts = os.path.join(self.folder, "sources.list.d")
        paths = [os.path.join(self.folder, "sources.list")]
        if os.path.isdir(parts):
            paths += [os.path.join(parts, name) for name in sorted(os.listdir(parts))]
        for path in paths:
            text = _read(path)  # what apt cannot read it does not use either
            if path.endswith(".list"):
                yield from _one_line_style(text)
            elif path.endswith(".sources"):
                yield from _deb822_style(text)


def _read(path: str) -> str:
    """A text file, "" where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST)
    except OSError:
        return ""


def _renamed(sources: list[Source], own: str, suite: str) -> list[Source]:
    """The same archives for another suite: of those that bear the suite's own name the first,
    which is the distribution's, and the updates beside it."""
    first = [each for each in sources if each.suite == own][:1]
    pockets = [] if suite in _ROLLING else [each for each in sources if each.suite != own]
    return [each._replace(suite=suite + each.suite[len(own) :]) for each in (*first, *pockets)]


def _one_line_style(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            options, uri, suite, components = match.groups()
            kept = tuple(
                each for each in (options or "").split() if each.partition("=")[0] in _OPTIONS
            )
            yield Source(uri, suite, tuple(components.split()), kept)


def _deb822_style(text: str) -> Iterator[Source]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                fields[name] = fields.get(name, "") + "\n" + line
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes") == "no":
            continue
        signed = fields.get("signed-by", "")
        lines = [f" {line.strip()}" for line in signed.splitlines() if line.strip()]
        key = "\n".join(lines) if "-----BEGIN" in signed else ""
        options = tuple(
            f"{option}={','.join(fields[name].split())}"
            for name, option in _OPTIONS.items()
            if name in fields and not (key and name == "signed-by")
        )
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, components, options, key)
