"""`dnf`: packages of Fedora, Red Hat Enterprise Linux and their like.

Source: dnf(8), dnf.conf(5), microdnf(8), rpm(8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.spec.model import Place
from builder.steps.packages import (
    BEGIN,
    END,
    NEAR,
    PackageStep,
    given_mounts,
    package_list,
    several,
    shared_fields,
)

if TYPE_CHECKING:
    from builder.spec.fields import Kind, Reader, Table
    from builder.spec.mounts import Mount
    from builder.spec.node import Node

PACKAGE = r"^[A-Za-z0-9@/_][A-Za-z0-9_+.:~^*?()/@-]*(=[A-Za-z0-9.:~^+_*?-]+)?$"

_BEGIN = r"""for dnf in dnf5 dnf microdnf yum; do
  ! command -v $dnf > /dev/null || break
done
kept=/tmp/.dnf.$$
history() {
  ls /var/lib/dnf/history.* /var/lib/yum/history/* \
    /usr/lib/sysimage/libdnf5/transaction_history.* 2> /dev/null || :
}
history | while read -r each; do mkdir -p "$kept${each%/*}"; cp -a "$each" "$kept$each"; done
specs() {
  for each do case $each in *=*) echo "${each%%=*}-${each#*=}" ;; *) echo "$each" ;; esac; done
}
"""

_REPOSITORIES = r"""packages=$1 recommends=$2
shift 2
while [ $# -gt 0 ]; do
  mkdir -p /etc/yum.repos.d
  printf %s "$2" > "/etc/yum.repos.d/$1.repo"
  [ -z "$3" ] || { mkdir -p /etc/pki/rpm-gpg; printf %s "$3" > "/etc/pki/rpm-gpg/$1.asc"; }
  shift 3
done
"""

_EXPLAIN = r"""explain() {
  names=$($dnf -q repoquery --qf '%{name}\n' 2> /dev/null | grep . | sort -u)
  [ -n "$names" ] || exit 1
  for each do
    case $each in @* | /* | *'('*) continue ;; esac
    there=$($dnf -q repoquery --qf '%{evr}\n' "${each%%=*}" 2> /dev/null | grep . | sort -u)
    case $each in
      *=*) [ -z "$there" ] || [ -n "$($dnf -q repoquery "$(specs "$each")" 2> /dev/null)" ] ||
        echo "no version '${each#*=}' of '${each%%=*}', there is" $there ;;
    esac
    [ -n "$there" ] || echo "$names" | missing "${each%%=*}"
  done
  exit 1
}
"""

_END = r"""history | while read -r each; do rm -f "$each"; done
[ ! -d "$kept" ] || cp -a "$kept/." /
rm -rf "$kept" /var/cache/dnf/* /var/cache/yum/* /var/cache/libdnf5/* /var/lib/dnf/repos
rm -f /var/log/dnf*.log /var/log/hawkey.log /var/log/yum.log /var/lib/rpm/__db.*
for each in /var/lib/rpm /usr/lib/sysimage/rpm /root/.rpmdb; do
  each=$each/rpmdb.sqlite
  [ ! -e $each-shm ] || [ -s $each-wal ] || : > $each-shm
done
"""
"""What is between connections to the database of packages is of this run: emptied, not removed, as
only root could read the database without it."""

_SCRIPT = (
    f"{NEAR}{_EXPLAIN}{BEGIN}{_BEGIN}{_REPOSITORIES}set -f\n"
    "$dnf -y --refresh --best $recommends install $(specs $packages) || explain $packages\n"
    f"set +f\n{_END}{END}"
)
"""$1: the packages, $2: an option for what they recommend; then for each repository its name, its
stanza and its key, which may be empty."""


class _Dnf(NamedTuple):
    place: Place
    name: str | None
    packages: tuple[str, ...]
    places: tuple[Place, ...] = ()
    recommends: bool = False
    repositories: Mapping[str, tuple[str, ...]] = {}  # by name: a stanza, and a key or ""
    env: Mapping[str, str] = {}
    timeout: int = 0
    given: tuple[Mount, ...] = ()  # its mounts


class Dnf(_Dnf, PackageStep):
    __slots__ = ()
    verb = "dnf"
    doc = "Install packages of Fedora, Red Hat Enterprise Linux and their like."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, boolean, text
        from builder.spec.kinds import ENV, NAME_FIELD

        package = text(package_name, expected="a package", pattern=PACKAGE)
        return {
            "dnf": Field(
                package_list(package, "a list of packages such as [nginx, nodejs=20.*]"),
                "Packages: NAME, NAME=VERSION (* allowed), @GROUP, or what a package provides.",
                required=True,
            ),
            "name": NAME_FIELD,
            "recommends": Field(boolean(), "true: also what they recommend; else not."),
            "repositories": Field(
                _repositories(), "Further ones by name, which stay in the image: uri, key ..."
            ),
            "env": Field(ENV, "Environment of the packages' scripts."),
            **shared_fields(),
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Dnf:
        from builder.spec.kinds import place

        packages, places = given["dnf"]
        return cls(
            place(reader, node.get("dnf") or node),
            given.get("name"),
            packages,
            places,
            given.get("recommends", False),
            given.get("repositories", {}),
            given.get("env", {}),
            given.get("timeout", 0),
            given_mounts(reader, node, given),
        )

    script = _SCRIPT

    def arguments(self) -> tuple[str, ...]:
        weak = f"--setopt=install_weak_deps={int(self.recommends)}"
        repositories = (
            part for name, parts in self.repositories.items() for part in (name, *parts)
        )
        return (" ".join(self.packages), weak, *repositories)

    def name_of(self, package: str) -> str:
        return package.partition("=")[0]


def _repositories() -> Kind:
    """Names to repositories, each to its section of a .repo file and its key."""
    from builder.steps.repositories import repositories

    its = "/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora"
    return repositories({}, _section, lambda *_: None, keys="/etc/pki/rpm-gpg", its=its)


def _section(name: str, given: Mapping[str, Any]) -> str:
    key = f"/etc/pki/rpm-gpg/{name}.asc" if given.get("key") else given.get("signed_by")
    lines = {
        "name": name,
        "baseurl": given["uri"],
        "enabled": "1",
        "gpgcheck": "1" if key else "0",
        "gpgkey": key and f"file://{key}",
    }
    return f"[{name}]\n" + "".join(f"{field}={value}\n" for field, value in lines.items() if value)


def package_name(value: str) -> str:
    from builder.spec.syntax import Malformed

    if value.endswith(".rpm"):
        raise Malformed(
            "is a file, expected the name of a package",
            "a file of yours: `copy` it, then `run: dnf install -y /x.rpm`",
        )
    if len(value) > 300 or not re.fullmatch(PACKAGE, value):
        raise Malformed(
            "is not a package, expected NAME, NAME=VERSION or @GROUP", several(value, PACKAGE)
        )
    return value
