"""`apt`: packages of Debian, Ubuntu and their like.

Source: apt-get(8), apt.conf(5), invoke-rc.d(8), dpkg(1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.spec.model import Place
from builder.steps.packages import (
    BEGIN,
    DOWNLOADS,
    END,
    NEAR,
    PackageStep,
    downloads,
    given_mounts,
    package_list,
    several,
    shared_fields,
)

if TYPE_CHECKING:
    from builder.spec.fields import Reader, Table
    from builder.spec.mounts import Mount
    from builder.spec.node import Node

NAME = r"[a-z0-9][a-z0-9+.-]+"
PACKAGE = rf"^{NAME}(:[a-z0-9-]+)?(=[A-Za-z0-9.+~:*?-]+|/[A-Za-z0-9._/-]+)?$"

_GET = (
    "apt-get -q -y -o APT::Update::Error-Mode=any -o Acquire::Retries=3 -o Acquire::Languages=none"
    " -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io"
    " -o Dpkg::Use-Pty=0 -o APT::Install-Suggests=false"
    " -o APT::Keep-Downloaded-Packages=true -o Dir::Cache::archives=$archives"
)

_BEGIN = r"""archives=/tmp/.archives.$$
mkdir -p $archives/partial
policy=/usr/sbin/policy-rc.d
if [ -e $policy ] || [ -L $policy ]; then policy=
else printf '#!/bin/sh\nexit 101\n' > $policy; chmod 755 $policy; fi
"""

_EXPLAIN = r"""explain() {
  for each do
    name=${each%%[=/]*}
    if [ -z "$(apt-cache policy "$name" 2>/dev/null)" ]; then
      apt-cache pkgnames | missing "${name%%:*}"
    fi
    case $each in *=*) ;; *) continue ;; esac
    there=$(apt-cache madison "$name" | awk -F ' *[|] *' '!seen[$2]++ { print $2 }')
    for one in $there; do
      case $one in ${each#*=}) continue 2 ;; esac
    done
    [ -z "$there" ] || echo "no version '${each#*=}' of '${name%%:*}', there is" $there
  done
  exit 100
}
"""

_JAVA = r"""undated() { # the day out of each certificate of Java's store, in its own format (JKS 2)
  perl -e '
    my ($file, $time) = @ARGV;
    open my $in, "<:raw", $file or exit; local $/; my $d = <$in>;
    my ($magic, $version, $count) = unpack "NNN", $d;
    exit unless length $d > 32 && $magic == 0xfeedfeed && $version == 2;
    my $at = 12;
    for (1 .. $count) {
      exit unless unpack("N", substr $d, $at) == 2;
      $at += 6 + unpack "n", substr $d, $at + 4;
      substr $d, $at, 8, pack "Q>", $time * 1000;
      $at += 10 + unpack "n", substr $d, $at + 8;
      $at += 4 + unpack "N", substr $d, $at;
      exit if $at > length($d) - 20;
    }
    exit unless $at == length($d) - 20;
    my $body = substr $d, 0, $at;
    open my $pipe, "|-", "sha1sum > $file.sum" or exit; binmode $pipe;
    print $pipe pack("n*", map ord, split //, "changeit"), "Mighty Aphrodite", $body;
    close $pipe or exit;
    open my $sum, "<", "$file.sum" or exit;
    open my $out, ">:raw", $file or die; print $out $body, pack "H40", <$sum>; close $out or die;
  ' "$1" "$SOURCE_DATE_EPOCH"
  rm -f "$1.sum"
}
store=/etc/ssl/certs/java/cacerts
[ ! -f $store ] || [ -z "$(find $store -newer "$mark")" ] || undated $store
"""

_END = r"""[ -z "$policy" ] || rm -f $policy
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*
rm -rf /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log /var/log/fontconfig.log
rm -f /var/cache/debconf/*-old /var/lib/dpkg/*-old
[ ! -d /var/cache/man ] || find /var/cache/man -type f -newer "$mark" -exec rm -f {} +
"""

_REPOSITORIES = r"""packages=$1 recommends=$2
shift 2
while [ $# -gt 0 ]; do
  printf %s "$2" > "/etc/apt/sources.list.d/$1.sources"
  [ -z "$3" ] || { mkdir -p /etc/apt/keyrings; printf %s "$3" > "/etc/apt/keyrings/$1.asc"; }
  shift 3
done
"""

_KEPT = rf"""digest() {{ sha256sum < "$1" | cut -c -64; }}
if [ -d {DOWNLOADS} ]; then
  set -f
  {_GET} -qq -o Acquire::ForceHash=SHA256 --print-uris install $recommends -- $packages \
    2> /dev/null | while read -r uri name size hash; do
    hash=${{hash#SHA256:}}
    case $name$hash in */*) continue ;; esac
    [ ${{#hash}} = 64 ] && [ -f "{DOWNLOADS}/$hash" ] || continue
    cp "{DOWNLOADS}/$hash" "$archives/partial/$name" || continue
    [ "$(digest "$archives/partial/$name")" != "$hash" ] ||
      cp "$archives/partial/$name" "$archives/$name"
    rm -f "$archives/partial/$name"
  done
  set +f
fi
"""
_KEEP = rf"""[ ! -d {DOWNLOADS} ] || for each in $archives/*.deb; do
  [ -f "$each" ] || continue
  hash=$(digest "$each")
  [ -e "{DOWNLOADS}/$hash" ] || {{
    cp "$each" "{DOWNLOADS}/new.$hash.$$" && mv "{DOWNLOADS}/new.$hash.$$" "{DOWNLOADS}/$hash"
  }} || rm -f "{DOWNLOADS}/new.$hash.$$"
done
"""
"""Downloads are kept by their SHA-256. A copy of one counts if it has the one that the signed lists
say, whatever another step did to what is kept."""

_SCRIPT = (
    f"{NEAR}{_EXPLAIN}{BEGIN}{_BEGIN}{_REPOSITORIES}{_GET} update\n{_KEPT}"
    f"set -f; {_GET} install $recommends -- $packages || explain $packages; set +f\n"
    f"{_KEEP}{_END}{_JAVA}{END}"
)
"""$1: the packages, $2: an option for what they recommend; then for each repository its name, its
stanza and its key, which may be empty."""


class _Apt(NamedTuple):
    place: Place
    name: str | None
    packages: tuple[str, ...]
    places: tuple[Place, ...] = ()
    recommends: bool = False
    repositories: Mapping[str, tuple[str, ...]] = {}  # by name: a stanza, and a key or ""
    env: Mapping[str, str] = {}
    timeout: int = 0
    given: tuple[Mount, ...] = ()  # its mounts


class Apt(_Apt, PackageStep):
    __slots__ = ()
    verb = "apt"
    doc = "Install packages of Debian, Ubuntu and their like."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, boolean, text
        from builder.spec.kinds import ENV, NAME_FIELD
        from builder.steps.deb822 import repositories

        package = text(package_name, expected="a package", pattern=PACKAGE)
        return {
            "apt": Field(
                package_list(package, "a list of packages such as [nginx, curl=7.*]"),
                "Packages: NAME, NAME=VERSION (* allowed), NAME/SUITE, NAME:ARCH.",
                required=True,
            ),
            "name": NAME_FIELD,
            "recommends": Field(boolean(), "true: also what they recommend; else not."),
            "repositories": Field(
                repositories(), "Further ones by name, which stay in the image: uri, suites ..."
            ),
            "env": Field(ENV, "Environment of the packages' scripts."),
            **shared_fields(),
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Apt:
        from builder.spec.kinds import place

        packages, places = given["apt"]
        return cls(
            place(reader, node.get("apt") or node),
            given.get("name"),
            packages,
            places,
            given.get("recommends", False),
            given.get("repositories", {}),
            given.get("env", {}),
            given.get("timeout", 0),
            given_mounts(reader, node, given),
        )

    def settings(self, given: Mapping[str, str]) -> dict[str, str]:
        return {
            "DEBIAN_FRONTEND": "noninteractive",
            "DEBCONF_NONINTERACTIVE_SEEN": "true",
            "UCF_FORCE_CONFFOLD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    script = _SCRIPT

    def own(self) -> tuple[Mount, ...]:
        return (downloads(self.verb, self.place),)

    def arguments(self) -> tuple[str, ...]:
        recommends = f"--{'' if self.recommends else 'no-'}install-recommends"
        repositories = (
            part for name, parts in self.repositories.items() for part in (name, *parts)
        )
        return (" ".join(self.packages), recommends, *repositories)


def package_name(value: str) -> str:
    from builder.spec.syntax import Malformed

    if len(value) > 300 or not re.fullmatch(PACKAGE, value):
        local = value.startswith((".", "/")) or value.endswith(".deb")
        hint = "a file of yours: `copy` it, then `run: apt-get install /x.deb`" if local else None
        raise Malformed(
            "is not a package, expected NAME, NAME=VERSION, NAME/SUITE or NAME:ARCH",
            hint or several(value, PACKAGE),
        )
    if re.search(r"-($|[:=/])", value):
        raise Malformed("ends in '-', with which apt would remove it")
    return value
