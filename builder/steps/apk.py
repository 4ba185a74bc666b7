"""`apk`: packages of Alpine Linux and its like.

Source: apk(8), apk-add(8), apk-search(8), apk-world(5), apk-repositories(5).
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
    from builder.spec.fields import Reader, Table
    from builder.spec.mounts import Mount
    from builder.spec.node import Node

_NAME = r"[A-Za-z0-9_/.][A-Za-z0-9_+.:/-]*"
_VERSION = r"(?:=|~|=~|<|>|<=|>=)[A-Za-z0-9._-]+(?:\.\*)?"
PACKAGE = rf"^{_NAME}(@[A-Za-z0-9_-]+)?({_VERSION})?$"

_ADD = "apk add --no-cache --no-progress"

_REPOSITORIES = r"""packages=$1
shift
for each do
  grep -qxF -- "$each" /etc/apk/repositories 2> /dev/null || echo "$each" >> /etc/apk/repositories
done
"""

_EXPLAIN = rf"""explain() {{
  names=$(apk search --no-cache -q | sort -u)
  [ -n "$names" ] || exit 1
  for each do
    ! {_ADD} --simulate "$each" > /dev/null 2>&1 || continue
    name=${{each%%[@<>=~]*}}
    if echo "$names" | grep -qxF -- "$name"; then
      [ "$name" != "$each" ] || continue
      there=$(apk search --no-cache -x "$name" | cut -c $((${{#name}} + 2))- | sort -u)
      echo "no version '${{each#"$name"}}' of '$name', there is" $there
    else
      echo "$names" | missing "$name"
    fi
  done
  exit 1
}}
"""

_SCRIPT = (
    f"{NEAR}{_EXPLAIN}{BEGIN}{_REPOSITORIES}set -f\n"
    f"{_ADD} $packages || explain $packages\n"
    f"set +f\nrm -rf /var/cache/apk/* /var/log/apk.log\n{END}"
)
"""$1: the packages; then lines of /etc/apk/repositories."""


class _Apk(NamedTuple):
    place: Place
    name: str | None
    packages: tuple[str, ...]
    places: tuple[Place, ...] = ()
    repositories: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    timeout: int = 0
    given: tuple[Mount, ...] = ()  # its mounts


class Apk(_Apk, PackageStep):
    __slots__ = ()
    verb = "apk"
    doc = "Install packages of Alpine Linux and its like."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, list_of, text
        from builder.spec.kinds import ENV, NAME_FIELD

        package = text(package_name, expected="a package", pattern=PACKAGE)
        repository = text(_repository, expected="an address")
        return {
            "apk": Field(
                package_list(package, "a list of packages such as [nginx, nodejs=20.*]"),
                "Packages: NAME, NAME=VERSION (.* at its end: any of it), NAME~VERSION, NAME@TAG.",
                required=True,
            ),
            "name": NAME_FIELD,
            "repositories": Field(
                list_of(repository, one=True, expected="a list of addresses"),
                "Further ones, which stay in the image: an address, or @TAG and an address.",
            ),
            "env": Field(ENV, "Environment of the packages' scripts."),
            **shared_fields(),
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Apk:
        from builder.spec.kinds import place

        packages, places = given["apk"]
        return cls(
            place(reader, node.get("apk") or node),
            given.get("name"),
            packages,
            places,
            given.get("repositories", ()),
            given.get("env", {}),
            given.get("timeout", 0),
            given_mounts(reader, node, given),
        )

    script = _SCRIPT

    def arguments(self) -> tuple[str, ...]:
        return (" ".join(map(_constraint, self.packages)), *self.repositories)


def _constraint(package: str) -> str:
    """`a=7.*` as apk says it."""
    return re.sub(r"=([^=~<>]+)\.\*$", r"=~\1", package)


def _repository(value: str) -> str:
    from builder.spec.fetching import web_address
    from builder.spec.syntax import Malformed

    tagged = re.fullmatch("(@[A-Za-z0-9_-]+) +([!-~]+)", value)
    if tagged:
        return f"{tagged[1]} {_repository(tagged[2])}"
    if re.fullmatch("/[!-~]*", value):
        return value
    if "://" not in value:
        raise Malformed("is not a repository, expected an address, or @TAG and an address")
    return web_address(value)


def package_name(value: str) -> str:
    from builder.spec.syntax import Malformed

    if value.endswith(".apk"):
        raise Malformed(
            "is a file, expected the name of a package",
            "a file of yours: `copy` it, then `run: apk add --no-cache /x.apk`",
        )
    wild = "*" in value and not re.search(r"=[^=~<>]+\.\*$", value)
    if len(value) > 300 or wild or not re.fullmatch(PACKAGE, value):
        raise Malformed(
            "is not a package, expected NAME, NAME=VERSION, NAME~VERSION or NAME@TAG",
            several(value, PACKAGE),
        )
    return value
