"""Enrolling: an account written into passwd, group, shadow and gshadow, as `useradd` writes it.

What is not the account's stays as it is, byte for byte: comments, NIS lines, lines that are none,
other line ends. Of two lines with one name the first counts, as for names of owners.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from builder.errors import BuilderError, LayerError
from builder.layer.entry import DIRECTORY, FILE, Entry
from builder.oci.digest import hasher
from builder.plan.changes import Changes, Draft, Ground
from builder.rootfs.accounts import ACCOUNT_FILE, fields_of, id_of, unknown
from builder.rootfs.arrange import ancestors
from builder.rootfs.view import View
from builder.steps.target import target

if TYPE_CHECKING:
    from builder.steps.account import Account

_DAY = 86_400
_NIS = (b"+", b"-")
_NO_LOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")
_NONE = ("/nologin", "/false")
"""Shells that nobody runs, wherever they would be."""
_NEVER_MADE = (b"dev", b"proc", b"sys", b"nonexistent")
"""Homes that say there is none, and what engines mount over."""


class _File:
    """One account file of the image."""

    def __init__(self, view: View, path: str) -> None:
        to = target(view, path)
        self.shown, self.path, self.entry = path, to.path, to.entry
        if to.entry is not None and to.entry.type != FILE:
            raise BuilderError(
                f"{path!r} is no regular file in the image, so no account is written"
            )
        if to.path.partition(b"/")[0] in _NEVER_MADE:
            raise BuilderError(f"{path!r} leads to '/{os.fsdecode(to.path)}', which no image holds")
        self._data = _read(view, path) or b""
        self._lines = self._data.split(b"\n")
        if not self._lines[-1]:
            del self._lines[-1]

    @property
    def there(self) -> bool:
        return self.entry is not None

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Where each line is, and its fields."""
        return ((at, fields_of(line)) for at, line in enumerate(self._lines))

    def find(self, name: str) -> tuple[int, list[str]] | None:
        return next((each for each in self if len(each[1]) > 1 and each[1][0] == name), None)

    def put(self, line: str) -> None:
        """Add a line, in the place of one with its name; else at the end, before what NIS adds."""
        old = self.find(line.partition(":")[0])
        if old is not None:
            self._lines[old[0]] = line.encode()
            return
        nis = (at for at, each in enumerate(self._lines) if each.startswith(_NIS))
        self._lines.insert(next(nis, len(self._lines)), line.encode())

    def join(self, at: int, field: int, member: str) -> None:
        """Add a name to the list in the last field of a line, unless it is there."""
        line = self._lines[at]
        end = len(line.rstrip())
        parts = line[:end].split(b":")
        parts += [b""] * (field + 1 - len(parts))
        members = parts[field].split(b",")
        if member.encode() not in members:
            parts[field] += b"," * any(members) + member.encode()
            self._lines[at] = b":".join(parts) + line[end:]

    def write(self, draft: Draft) -> None:
        data = b"".join(line + b"\n" for line in self._lines)
        if data in (self._data, self._data + b"\n"):
            return
        if len(data) > ACCOUNT_FILE:
            raise BuilderError(f"{self.shown!r} would be larger than {ACCOUNT_FILE} bytes")
        if self.path in draft.entries:
            raise BuilderError(f"{self.shown!r} is a link to another file of accounts in the image")
        was = self.entry or Entry(self.path, FILE, 0o644)
        entry = was._replace(path=self.path, mtime=draft.time, size=len(data))
        draft.add(entry, data, hasher(data).digest())


def enrol(step: Account, ground: Ground) -> Changes:
    """The changes that make the account; none where it is there. Raises BuilderError where another
    of its name or number is."""
    view = ground.view
    draft = Draft(ground, None)
    passwd, group = _File(view, "/etc/passwd"), _File(view, "/etc/group")
    shadow, gshadow = _File(view, "/etc/shadow"), _File(view, "/etc/gshadow")
    defaults = _defaults(view)
    found = _known(step, passwd)
    if found:
        uid, gid, home = found
        _check_group(step, group, gid)
    else:
        uid = _uid(step, passwd, defaults)
        gid = _own_group(step, group, gshadow, uid, defaults)
        home = step.home or ("/root" if step.account == "root" else f"/home/{step.account}")
        shell = step.shell or _shell(step, view)
        hidden = "x" if shadow.there else "!"
        passwd.put(f"{step.account}:{hidden}:{uid}:{gid}::{home}:{shell}")
        if shadow.there:
            shadow.put(_shadow_line(step, ground.epoch, defaults))
        if step.shell and not step.shell.endswith(_NONE) and _is_missing(view, step.shell):
            draft.notes.append(f"the shell {step.shell!r} is not in the image")
    for name in step.groups:
        at, joined = _group_of(name, group)
        group.join(at, 3, step.account)
        if inner := gshadow.find(joined):
            gshadow.join(inner[0], 3, step.account)
    for file in (passwd, group, shadow, gshadow):
        file.write(draft)
    if step.home or not (found or step.system):
        _make_home(draft, home, uid, gid)
    return draft.done()


def _known(step: Account, passwd: _File) -> tuple[int, int, str] | None:
    """Numbers and home of the account where it is there, which has to be as the step says."""
    for _, fields in passwd:
        if len(fields) < 4 or fields[0] != step.account:
            continue
        uid, gid = id_of(fields[2]), id_of(fields[3])
        if uid is None or gid is None:
            continue
        home, shell = (*fields[5:7], "", "")[:2]
        is_so = {"uid": uid, "gid": gid, "home": home, "shell": shell}
        for name, value in is_so.items():
            wanted = getattr(step, name)
            if wanted is not None and wanted != value:
                raise BuilderError(
                    f"account {step.account!r} is in the image's /etc/passwd with the {name} "
                    f"{value!r}, not {wanted!r}",
                    f"leave {name!r} out to take it as it is, or name the account otherwise",
                ).about(name)
        return uid, gid, home
    return None


def _check_group(step: Account, group: _File, gid: int) -> None:
    """That the group that a step names is the one that the account has."""
    if step.group is None:
        return
    _, fields = _find_group(step.group, group) or (0, [])
    if not fields or id_of(fields[2]) != gid:
        raise BuilderError(
            f"account {step.account!r} is in the image's /etc/passwd with the gid {gid}, which is "
            f"not the group {step.group!r}",
            "leave 'group' out to take it as it is, or name the account otherwise",
        ).about("group")


def _uid(step: Account, passwd: _File, defaults: dict[str, int]) -> int:
    used: dict[int, str] = {}
    for _, fields in passwd:
        number = id_of(fields[2]) if len(fields) > 3 and fields[0] else None
        if number is not None:
            used.setdefault(number, fields[0])
    uid = 0 if step.uid is None and step.account == "root" else step.uid
    if uid is None:
        return _free("UID", used, step, defaults)
    if uid in used:
        other = used[uid]
        raise BuilderError(
            f"uid {uid} is {other!r} in the image's /etc/passwd, not {step.account!r}",
            f"take another, or leave it out for the next that is free; {other!r} can be used as "
            "it is",
        ).about("uid")
    return uid


def _own_group(
    step: Account, group: _File, gshadow: _File, uid: int, defaults: dict[str, int]
) -> int:
    """The number of the account's own group, which is made where it is missing."""
    used: dict[int, str] = {}
    for _, fields in group:
        number = id_of(fields[2]) if len(fields) > 2 and fields[0] else None
        if number is not None:
            used.setdefault(number, fields[0])
    if step.group is None and step.gid is not None and step.gid in used:
        return step.gid
    name = step.group or step.account
    if there := _find_group(name, group):
        its = int(there[1][2])
        if step.gid not in (None, its):
            raise BuilderError(
                f"group {name!r} is in the image's /etc/group with the gid {its}, not {step.gid}",
                "leave 'gid' out to take it as it is",
            ).about("gid")
        return its
    if step.group and step.gid is None:
        error = unknown("group", name, used.values(), "/etc/group", name)
        raise BuilderError(error.what, f"give its 'gid' to make it; {error.hint}").about("group")
    gid = step.gid
    if gid is None:
        gid = uid if uid not in used else _free("GID", used, step, defaults)
    if gid in used:
        raise BuilderError(
            f"gid {gid} is the group {used[gid]!r} in the image's /etc/group, not {name!r}"
        ).about("gid")
    group.put(f"{name}:x:{gid}:")
    if gshadow.there:
        gshadow.put(f"{name}:!::")
    return gid


def _free(kind: str, used: Iterable[int], step: Account, defaults: dict[str, int]) -> int:
    """The number that useradd takes: the one above all of the range, else the first that is free;
    of system accounts the one below all, else the last."""
    low, high = defaults.get(f"{kind}_MIN", 1000), defaults.get(f"{kind}_MAX", 60000)
    if step.system:
        low, high = defaults.get(f"SYS_{kind}_MIN", 101), defaults.get(f"SYS_{kind}_MAX", low - 1)
    numbers: tuple[int, ...]
    taken = {each for each in used if low <= each <= high}
    if step.system:
        first = min(taken, default=high + 1) - 1
        numbers = (*range(first, low - 1, -1)[:1], *range(high, first, -1)[: len(taken) + 1])
    else:
        first = max(taken, default=low - 1) + 1
        numbers = (*range(first, high + 1)[:1], *range(low, first)[: len(taken) + 1])
    found = next((number for number in numbers if number not in taken), None)
    if found is not None:
        return found
    raise BuilderError(
        f"no {kind.lower()} from {low} to {high} is free in the image", f"give a {kind.lower()!r}"
    )


def _find_group(name: str, group: _File) -> tuple[int, list[str]] | None:
    for at, fields in group:
        if len(fields) > 2 and fields[0] == name and id_of(fields[2]) is not None:
            return at, fields
    return None


def _group_of(text: str, group: _File) -> tuple[int, str]:
    """Which line a group that is to be joined has, and its name; the text may be its number."""
    if found := _find_group(text, group):
        return found[0], found[1][0]
    names = []
    for at, fields in group:
        if len(fields) > 2 and fields[0]:
            names.append(fields[0])
            if text.isdigit() and id_of(fields[2]) == id_of(text):
                return at, fields[0]
    error = unknown("group", text, names, "/etc/group", text)
    if text.isdigit() or not error.hint or not error.hint.startswith("did"):
        error.hint = f"it has {', '.join(names[:20])}" if names else "it has none; leave it out"
    raise error.about("groups")


def _shadow_line(step: Account, epoch: int, defaults: dict[str, int]) -> str:
    """No password, changed on the day of the epoch, as useradd has it with SOURCE_DATE_EPOCH. Day 0
    would ask for a new one, so it stays empty."""
    names = () if step.system else ("PASS_MIN_DAYS", "PASS_MAX_DAYS", "PASS_WARN_AGE")
    ages = [str(defaults.get(name, "")) for name in names] or ["", "", ""]
    return f"{step.account}:!:{epoch // _DAY or ''}:{':'.join(ages)}:::"


def _shell(step: Account, view: View) -> str:
    if not step.system:
        return "/bin/sh"
    there = (each for each in _NO_LOGIN if not _is_missing(view, each))
    return next(there, "/sbin/nologin")


def _is_missing(view: View, path: str) -> bool:
    return target(view, path).entry is None


def _make_home(draft: Draft, home: str, uid: int, gid: int) -> None:
    to = target(draft.view, home)
    if to.path.partition(b"/")[0] in _NEVER_MADE:
        return
    if to.entry is not None and to.entry.type == DIRECTORY:
        return
    if to.entry is not None or draft.entries.keys() & {to.path, *ancestors(to.path)}:
        raise BuilderError(f"{home!r} is a file in the image, not a home").about("home")
    draft.add(Entry(to.path, DIRECTORY, 0o755, uid, gid, draft.time))


def _defaults(view: View) -> dict[str, int]:
    """Numbers of /etc/login.defs."""
    found = {}
    for line in (_read(view, "/etc/login.defs") or b"").splitlines():
        words = line.decode("utf-8", "replace").split()
        if len(words) > 1 and (value := id_of(words[1])) is not None:
            found[words[0]] = value
    return found


def _read(view: View, path: str) -> bytes | None:
    try:
        return view.read_small(path.strip("/").encode())
    except LayerError as error:
        error.hint = "an account is written into files of at most 1 MiB"
        raise
