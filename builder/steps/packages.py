"""Packages: what verbs share that install by the package manager that the image has.

Such a step is a shell script that runs as root. Its key holds that script, the fields of the step
and not the day: it stays a hit until they or what it stands on change, or `--pull` asks for the
package lists anew. What would differ from run to run is not left behind: docs/packages.md lists it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from builder.errors import BuilderError
from builder.plan.step import Explained
from builder.spec.model import Place, shown
from builder.spec.source import written
from builder.steps.mounting import MountingStep

if TYPE_CHECKING:
    from builder.errors import CommandFailed
    from builder.executor.base import Command
    from builder.oci.image import Document
    from builder.rootfs.view import View
    from builder.spec.fields import Kind, Reader, Table
    from builder.spec.mounts import Cache, Mount
    from builder.spec.node import Node

PROGRAMS = {
    "apt": ("/usr/bin/apt-get",),
    "apk": ("/sbin/apk", "/usr/bin/apk"),
    "dnf": ("/usr/bin/dnf", "/usr/bin/microdnf", "/usr/bin/yum"),
}
"""Verbs of distributions, and the programs that they run, where each distribution has them."""

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_TITLE = 60  # characters
EMPTIED = ("/tmp", "/var/tmp")
"""Folders in which nothing new stays when such a step ends."""
DOWNLOADS = "/run/packages"
"""Where a step sees its own cache of downloads, if it has one."""

NEAR = r"""near() {
  awk -v wanted="$1" '
    BEGIN { n = length(wanted); most = n < 6 ? 1 : n < 12 ? 2 : 3 }
    index($0, wanted) == 1 && substr($0, n + 1) ~ /^[-.0-9]/ {
      print (substr($0, n + 1) ~ /^[0-9]/ ? 0 : 4) + length($0) / 1000, $0
    }
    { m = length($0)
      if (m - n > most || n - m > most) next
      for (j = 0; j <= m; j++) old[j] = j
      for (i = 1; i <= n; i++) {
        now[0] = i
        for (j = 1; j <= m; j++) {
          a = substr(wanted, i, 1); b = substr($0, j, 1)
          best = old[j - 1] + (a != b)
          if (old[j] + 1 < best) best = old[j] + 1
          if (now[j - 1] + 1 < best) best = now[j - 1] + 1
          if (i > 1 && j > 1 && a == substr($0, j - 1, 1) && b == substr(wanted, i - 1, 1) \
              && before[j - 2] + 1 < best) best = before[j - 2] + 1
          now[j] = best
        }
        for (j = 0; j <= m; j++) { before[j] = old[j]; old[j] = now[j] }
      }
      if (old[m] <= most) print old[m], $0
    }' | sort -n | awk '!seen[$2]++ && seen_count++ < 3 { print $2 }'
}
missing() { # name, and the names that there are on stdin
  found=$(near "$1" | awk '{ printf "%s%s", (NR > 1 ? ", " : ""), $0 }')
  echo "no package '$1'${found:+, did you mean $found?}"
}
"""
"""Shell functions: `missing NAME < NAMES` prints the line that `PackageStep.explain` reads."""

BEGIN = r"""set -e
umask 022
mark=/tmp/.packages.$$
: > "$mark"
command -v find > /dev/null || find() { [ "$1" != "$mark.2" ] || echo newer; }
until : > "$mark.2"; [ -n "$(find "$mark.2" -newer "$mark")" ]; do
  sleep 0.1 2> /dev/null || sleep 1 2> /dev/null || :
done
rm "$mark.2"
machine_id=$(if [ -s /etc/machine-id ]; then echo set; elif [ -e /etc/machine-id ]; then echo empty
  else echo none; fi)
[ -e /var/lib/dbus/machine-id ] && dbus_id=set || dbus_id=none
"""
END = r"""[ "$machine_id" != empty ] || : > /etc/machine-id
[ "$machine_id" != none ] || rm -f /etc/machine-id
[ "$dbus_id" = set ] || rm -f /var/lib/dbus/machine-id
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
rm -f /etc/.pwd.lock /var/cache/ldconfig/aux-cache /var/lib/systemd/random-seed
[ ! -d /etc/ssh ] || find /etc/ssh -name 'ssh_host_*_key*' -newer "$mark" -exec rm -f {} +
[ ! -d /var/log ] || find /var/log -type f -newer "$mark" -exec sh -c \
  'for each do : > "$each"; done' sh {} +
for folder in /tmp /var/tmp; do
  [ ! -d $folder ] || find $folder -mindepth 1 -depth -newer "$mark" -exec rm -rf {} +
done
rm -f "$mark"
"""
"""Before and after: what the scripts of packages make that is of this run alone. Files in /var/log
that they wrote are emptied, as services may need them. What comes after the mark is newer: clocks
of files tick, and busybox's `find` sees seconds alone. Without `find`, as in the smallest images of
Red Hat's, logs and leftovers stay."""


class PackageStep(MountingStep):
    """A step of such a verb. Its fields are named as here where it has them."""

    __slots__ = ()
    packages: tuple[str, ...]  # as written
    places: tuple[Place, ...]  # of each of them; in no key
    env: Mapping[str, str]
    timeout: int  # nanoseconds; 0: none
    script: str
    """What /bin/sh is to run as root with `arguments`; it ends at the first error. It is the same
    for all steps of a verb: what `why` tells of a change is in the arguments."""

    @property
    def dated(self) -> bool:
        return True

    def title(self) -> str:
        line = self.created_by()
        return line if len(line) <= _TITLE else line[: _TITLE - 1] + "…"

    def created_by(self) -> str:
        return " ".join((self.verb, "install", *map(shown, self.packages)))

    def arguments(self) -> tuple[str, ...]:
        """$1 and so on, each a text in which a change is seen."""
        return (" ".join(self.packages),)

    def name_of(self, package: str) -> str:
        """The name in an entry of the list, without version and the like."""
        return re.split("[=<>~!@/:]", package, maxsplit=1)[0]

    def explain(self, error: CommandFailed) -> Explained | None:
        """What it means that the command failed, if that is known."""
        for line in error.tail:
            found = re.match(r"no (?:package|version '.*?' of) '(.*?)'", line)
            if found is None:
                continue
            what, _, near = line.partition(", ")
            for package, place in zip(self.packages, self.places, strict=False):
                if self.name_of(package) == found[1]:
                    return Explained(what, near or None, place)
        return None

    def settings(self, given: Mapping[str, str]) -> dict[str, str]:
        """Environment of the package manager, which the step's own `env` may change. `given`: what
        the config says."""
        return {}

    def without_sources(self) -> Self:
        made: Self = MountingStep.without_sources(self)._replace(places=())  # type: ignore[attr-defined]
        return made

    def command_on(self, config: Document, view: View, epoch: int) -> Command:
        from builder.executor.base import Command
        from builder.plan.config import settings_of, variable

        self.look(view)
        given = dict(map(variable, settings_of(config).get("Env") or ()))
        env = {
            **{name: text for name, text in given.items() if name.lower() in _PROXIES},
            **base_environment(epoch),
            **self.settings(given),
            **self.env,
        }
        timeout = self.timeout / 10**9 if self.timeout else None
        argv = ("/bin/sh", "-e", "-c", self.script, self.verb, *self.arguments())
        return Command(argv, env, 0, 0, (0,), "/", "host", timeout)

    def look(self, view: View) -> None:
        """Raise BuilderError if what it stands on has no such package manager."""
        if any(is_there(view, path) for path in PROGRAMS[self.verb]):
            return
        raise BuilderError(
            f"{self.verb} needs {PROGRAMS[self.verb][0]}, which the image does not have here",
            other_verb(view),
        )


def shared_fields() -> Table:
    """The fields that all such verbs have alike."""
    from builder.spec.fields import Field
    from builder.spec.kinds import DURATION
    from builder.spec.mounting import MOUNTS

    return {
        "timeout": Field(DURATION, "How long it may take, such as 10m; else as it likes."),
        "mounts": Field(MOUNTS, "What it sees beside the image, such as a secret for a server."),
    }


def given_mounts(reader: Reader, node: Node, given: Mapping[str, Any]) -> tuple[Mount, ...]:
    """The spec's `mounts`. Raises Fault for one that lies where the step removes what is new."""
    mounts: tuple[Mount, ...] = given.get("mounts", ())
    items = (node.get("mounts") or node).items
    kept = [each for each in items if not reader.gives_nothing(each)]
    for number, mount in enumerate(mounts):
        target = posixpath.normpath(posixpath.join("/", getattr(mount, "target", None) or ""))
        for folder in EMPTIED:
            if target.startswith(f"{folder}/"):
                at = kept[number] if len(kept) == len(mounts) else node
                raise at.fault(f"{target!r} is in {folder}, which the step empties at its end")
    return mounts


def downloads(verb: str, place: Place) -> Cache:
    """A verb's own cache, at DOWNLOADS."""
    from builder.spec.mounts import Cache

    return Cache(place, DOWNLOADS, f".{verb}")


def base_environment(epoch: int) -> dict[str, str]:
    """What the config says counts for a package step only where it says a proxy: packages do not
    come anew because a port changed."""
    from builder.plan.config import DEFAULT_PATH

    return {
        "PATH": DEFAULT_PATH,
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(epoch),
    }


def is_there(view: View, path: str) -> bool:
    found = view.lookup(view.resolve(path.encode(), follow_last=True))
    return found is not None


def other_verb(view: View) -> str:
    for verb, paths in PROGRAMS.items():
        if any(is_there(view, path) for path in paths):
            return f"it has {verb}: write {verb}: [...]"
    return "a step installs packages where the base brings a package manager, such as debian"


def package_list(package: Kind, expected: str, *, least: int = 1) -> Kind:
    """A list of packages, to a tuple of texts and one of their places."""
    from builder.spec.fields import BAD, Kind, list_of
    from builder.spec.kinds import place
    from builder.spec.node import LIST

    texts = list_of(package, one=True, least=least, expected=expected)

    def read(reader: Reader, node: Node) -> Any:
        found = texts.read(reader, node)
        if found is BAD:
            return BAD
        items = node.items if node.kind == LIST else [node]
        kept = [each for each in items if not reader.gives_nothing(each)]
        if len(kept) != len(found):  # a template gave the whole list
            kept = [node] * len(found)
        return found, tuple(place(reader, each) for each in kept)

    return Kind(read, texts.schema)


def repository_name(name: str) -> None:
    """Of a file that the package manager reads. Raises Malformed."""
    from builder.spec.syntax import Malformed

    if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,99}", name):
        raise Malformed("is not a repository's name, expected a-z, 0-9, - and _")


_SAID_ANYWAY = {
    *("-y", "--yes", "--assumeyes", "-q", "-qq", "--quiet"),
    *("--no-install-recommends", "--no-cache", "--no-cache-dir"),
}
"""Flags of package managers that steps need not say."""


def several(value: str, package: str) -> str | None:
    """The hint for one text that lists what are packages by the pattern, perhaps as a command."""
    words = value.replace(",", " ").split()
    if words and not set(words) - _SAID_ANYWAY:
        return "it is so without: leave it out"
    words = [word for word in words if word not in _SAID_ANYWAY]
    verb = next((at for at, word in enumerate(words[:3]) if word in ("install", "add")), -1)
    words = words[verb + 1 :]
    if len(value) >= 200 or not all(re.fullmatch(package, word) for word in words):
        return None
    if len(words) == 1:
        return f"write {written(words[0])}"
    return f"write [{', '.join(map(written, words))}]" if words else None
