"""`account`: a user with its group, written into the image's account files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from builder.plan.step import FileStep
from builder.spec.model import Place, shown

if TYPE_CHECKING:
    from builder.plan.changes import Changes
    from builder.plan.materials import Materials
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node

NAME = r"^(?!\.{1,2}$)(?![0-9]+$)[A-Za-z0-9_.]([A-Za-z0-9_.-]{0,30}[A-Za-z0-9_.$-])?$"
_PATH = r"^/[^:\x00-\x1f\x7f]*$"
_GROUP = r"^[^:,\s\x00-\x1f\x7f]{1,255}$"
"""One that the image has, whoever named it."""


class _Account(NamedTuple):
    place: Place
    name: str | None
    account: str
    uid: int | None = None  # None, of all fields: what the image has, else what useradd takes
    gid: int | None = None
    group: str | None = None  # of the account itself; None: of its gid, else called as it is
    groups: tuple[str, ...] = ()  # further ones
    home: str | None = None
    shell: str | None = None
    system: bool = False


class Account(_Account, FileStep):
    __slots__ = ()
    verb = "account"
    doc = "Make a user and its group."
    in_working_dir = False
    """Its files are where they are."""

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, boolean, list_of, number, text
        from builder.spec.kinds import NAME_FIELD, absolute, matching
        from builder.spec.syntax import MAX_ID

        what = "a name of an account, expected at most 32 of letters, digits, _ . - and no number"
        name = text(matching(NAME, what), expected="a name", pattern=NAME)
        named = text(matching(_GROUP, "a group's name"), expected="a name", pattern=_GROUP)
        within = matching(_PATH, "a path that an account file holds, expected one from / without :")
        path = text(lambda value: absolute(within(value)), expected="a path", pattern=_PATH)
        return {
            "account": Field(name, "The account's name.", required=True),
            "name": NAME_FIELD,
            "uid": Field(number(0, MAX_ID), "Its number, else the next that is free."),
            "gid": Field(number(0, MAX_ID), "Its group's number, else the uid where that is free."),
            "group": Field(name, "Its group's name, else the account's own."),
            "groups": Field(list_of(named, one=True), "Further groups, which the image has."),
            "home": Field(path, "Its home, made when missing; else /home/NAME."),
            "shell": Field(path, "Its shell, else /bin/sh; of a system account nologin."),
            "system": Field(boolean(), "A system account: numbers below 1000, no home made."),
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Account:
        from builder.spec.kinds import place

        fields = {name: value for name, value in given.items() if name in cls._fields[2:]}
        return cls(place(reader, node.get("account") or node), given.get("name"), **fields)

    def title(self) -> str:
        return f"account {shown(self.account)}"

    def rooted(self, folder: str) -> Self:
        return self

    def changes(self, given: Materials) -> Changes:
        from builder.steps.enrolling import enrol

        return enrol(self, given.ground)
