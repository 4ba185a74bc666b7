"""apt's settings of this system: which sources a suite comes from, which proxies lead there.

Source: sources.list(5), both styles; apt.conf(5).
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


class Source(NamedTuple):
    uri: str
    suite: str
    components: tuple[str, ...]
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        options = f"[{' '.join(self.options)}] " if self.options else ""
        return f"deb {options}{self.uri} {self.suite} {' '.join(self.components)}"


class Apt(NamedTuple):
    """`folder` is apt's /etc/apt."""

    folder: str = "/etc/apt"

    def sources(self, suite: str) -> tuple[str, ...]:
        """The system's `deb` lines for a suite and its updates; none when it does not follow the
        suite. Only archives with a `main` count: others may bear the suite's name as well."""
        wanted = [suite + pocket for pocket in _POCKETS]
        found = [each for each in self._all() if each.suite in wanted and "main" in each.components]
        if not any(each.suite == suite for each in found):
            return ()
        return tuple(dict.fromkeys(map(str, found)))

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
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    text = file.read(_LARGEST)
            except OSError:
                continue  # what apt cannot read it does not use either
            if path.endswith(".list"):
                yield from _one_line_style(text)
            elif path.endswith(".sources"):
                yield from _deb822_style(text)


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
        options = tuple(
            f"{option}={','.join(fields[key].split())}"
            for key, option in _OPTIONS.items()
            if key in fields and "\n" not in fields[key]  # a key block: apt's own keyrings must do
        )
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()), options)
