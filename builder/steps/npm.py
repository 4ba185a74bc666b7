"""`npm`: packages of Node: programs for the whole image, or what a project's lock file says.

Source: npm-install(1), npm-ci(1), npm's config(7), folders(5).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from builder.errors import BuilderError
from builder.spec.model import Place, shown
from builder.steps.packages import (
    BEGIN,
    END,
    NEAR,
    PackageStep,
    given_mounts,
    is_there,
    package_list,
    shared_fields,
)

if TYPE_CHECKING:
    from builder.executor.base import Command
    from builder.oci.image import Document
    from builder.rootfs.view import View
    from builder.spec.fields import Reader, Table
    from builder.spec.mounts import Mount
    from builder.spec.node import Node

_PART = r"[A-Za-z0-9_][A-Za-z0-9._~-]*"
PACKAGE = rf"^(@{_PART}/)?{_PART}(@[A-Za-z0-9.~^<>=*_|+-]+)?$"

_EXPLAIN = r"""explain() {
  for each do
    case ${each#?} in *@*) name=${each%@*} ;; *) name=$each ;; esac
    if npm view "$name" version 2>&1 | grep -q E404; then
      npm search --parseable --searchlimit=50 "$name" 2> /dev/null | cut -f 1 | missing "$name"
    elif [ "$name" != "$each" ] && [ -z "$(npm view "$each" version 2> /dev/null)" ]; then
      latest=$(npm view "$name" version 2> /dev/null)
      [ -z "$latest" ] || echo "no version '${each##*@}' of '$name', the latest is $latest"
    fi
  done
  exit 1
}
"""

_SCRIPT = rf"""{NEAR}{_EXPLAIN}{BEGIN}npm_config_cache=/tmp/.npm.$$ npm_config_devdir=/tmp/.gyp.$$
export npm_config_cache npm_config_devdir
if [ -n "$2" ]; then
  cd "$2"
  npm ci $3
  rm -f node_modules/.package-lock.json
else
  set -f
  npm install --global $1 || explain $1
  set +f
  rm -f "$(npm root --global)/.package-lock.json"
fi
cd /
rm -rf $npm_config_cache $npm_config_devdir
{END}"""
"""$1: the packages, or $2: a project's folder and $3: an option for what it needs while it is
developed. What is removed names the registry, and is made anew when npm misses it."""

_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")


class _Npm(NamedTuple):
    place: Place
    name: str | None
    packages: tuple[str, ...]  # none: what the lock file in `dest` says
    places: tuple[Place, ...] = ()
    dest: str = ""
    dev: bool = False
    env: Mapping[str, str] = {}
    timeout: int = 0
    given: tuple[Mount, ...] = ()  # its mounts


class Npm(_Npm, PackageStep):
    __slots__ = ()
    verb = "npm"
    doc = "Install packages of Node: programs, or `ci`: what a project's lock file says."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, Kind, boolean, text
        from builder.spec.kinds import ENV, NAME_FIELD, TARGET, matching

        what = "a package, expected NAME, NAME@VERSION or @SCOPE/NAME"
        package = text(matching(PACKAGE, what), expected="a package", pattern=PACKAGE)
        listed = package_list(package, "a list of packages such as [typescript@5]")

        def read(reader: Reader, node: Node) -> Any:
            return ((), ()) if node.text == "ci" else listed.read(reader, node)

        return {
            "npm": Field(
                Kind(read, listed.schema),
                "Programs for the whole image, or ci: what package-lock.json in `dest` says.",
                required=True,
            ),
            "name": NAME_FIELD,
            "dest": Field(TARGET, "With ci: the folder of package-lock.json; else config's."),
            "dev": Field(boolean(), "With ci: true for devDependencies, too."),
            "env": Field(ENV, "Environment of npm and the packages' scripts."),
            **shared_fields(),
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Npm:
        from builder.spec.kinds import no_slash, place

        packages, places = given["npm"]
        for field in ("dest", "dev"):
            if packages and field in given:
                at = node.get(field) or node
                raise at.fault(f"{field!r} is given, which belongs to `npm: ci`")
        return cls(
            place(reader, node.get("npm") or node),
            given.get("name"),
            packages,
            places,
            "" if packages else no_slash(given.get("dest", ".")),
            given.get("dev", False),
            given.get("env", {}),
            given.get("timeout", 0),
            given_mounts(reader, node, given),
        )

    @property
    def dated(self) -> bool:
        """A lock file says what comes."""
        return bool(self.packages)

    def created_by(self) -> str:
        if self.packages:
            return f"npm install --global {' '.join(map(shown, self.packages))}"
        return f"npm ci {shown(self.dest)}"

    def rooted(self, folder: str) -> Self:
        from builder.plan.config import in_image

        return self if self.packages else self._replace(dest=in_image(self.dest, folder))

    script = _SCRIPT

    def settings(self, given: Mapping[str, str]) -> dict[str, str]:
        options = ("audit", "fund", "update_notifier", "progress")
        return {f"npm_config_{each}": "false" for each in options}

    def arguments(self) -> tuple[str, ...]:
        return (" ".join(self.packages), self.dest, "" if self.dev else "--omit=dev")

    def command_on(self, config: Document, view: View, epoch: int) -> Command:
        from builder.plan.config import working_dir_of

        return PackageStep.command_on(self.rooted(working_dir_of(config)), config, view, epoch)

    def name_of(self, package: str) -> str:
        return package[0] + package[1:].partition("@")[0]

    def look(self, view: View) -> None:
        from builder.plan.config import DEFAULT_PATH

        folders = self.env.get("PATH", DEFAULT_PATH).split(":")
        if not any(is_there(view, f"{folder}/npm") for folder in folders):
            raise BuilderError(
                "npm is not in the image here",
                "a step before installs it, or the base brings it, such as node:22",
            )
        locks = [posixpath.join(self.dest, each) for each in _LOCKS]
        if not self.packages and not any(is_there(view, each) for each in locks):
            raise BuilderError(
                f"{locks[0]!r} is not in the image here, which says what `npm ci` installs",
                "`copy` it there with package.json in a step before",
            ).about("dest")
