"""`set`: from here on. What the steps after it and the image have of user, folder, environment,
PATH and shell; it stands in no key of the steps before it, and makes no layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.plan.step import ConfigStep
from builder.spec.model import ConfigChange, Place, shown

if TYPE_CHECKING:
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node


class _Set(NamedTuple):
    place: Place
    name: str | None
    env: Mapping[str, str] = {}
    user: str | None = None
    working_dir: str | None = None  # a relative one is below the one there is
    path: tuple[str, ...] = ()
    shell: tuple[str, ...] | None = None


class Set(_Set, ConfigStep):
    __slots__ = ()
    verb = "set"
    doc = "Set user, working_dir, env, path or shell from here on; makes no layer."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec import syntax
        from builder.spec.config import CONFIG
        from builder.spec.fields import BAD, Field, Kind, read_table, table_schema, text
        from builder.spec.kinds import NAME_FIELD

        def working_dir(value: str) -> str:
            syntax.parse_target(value)
            return value

        table = {
            **{name: CONFIG[name] for name in ("env", "path", "user", "shell")},
            "working_dir": Field(
                text(working_dir), "Where commands run; relative: below the one there is."
            ),
        }

        def settings(reader: Reader, node: Node) -> Any:
            given = read_table(reader, node, table, "'set'")
            if given == {}:
                raise node.fault(f"'set' sets nothing, expected one of {', '.join(table)}")
            return BAD if given is None else given

        schema = {**table_schema(table), "minProperties": 1}
        return {
            "set": Field(Kind(settings, schema), "What holds from here on.", required=True),
            "name": NAME_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Set:
        from builder.spec.kinds import place

        return cls(place(reader, node.get("set") or node), given.get("name"), **given["set"])

    def title(self) -> str:
        named = [
            *(f"{name}={shown(value)}" for name, value in self.env.items()),
            *(f"path {shown(each)}" for each in self.path),
            *((f"user {shown(self.user)}",) if self.user else ()),
            *((f"working_dir {shown(self.working_dir)}",) if self.working_dir else ()),
            *((f"shell {' '.join(map(shown, self.shell))}",) if self.shell else ()),
        ]
        return f"set {', '.join(named)}"

    @property
    def change(self) -> ConfigChange:
        return ConfigChange(
            env=self.env,
            user=self.user,
            working_dir=self.working_dir,
            path=self.path,
            shell=self.shell,
        )
