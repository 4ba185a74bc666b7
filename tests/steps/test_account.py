"""`account`: as useradd and groupadd of shadow-utils write it, on trees of every kind."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from builder.api import load_spec
from builder.errors import BuilderError, SpecErrors
from builder.layer.entry import DIRECTORY, FILE, SYMLINK, Change, Entry
from builder.layer.write import write_layer
from builder.oci.image import Image, Platform, empty_image
from builder.spec.model import Place
from builder.steps.account import Account
from builder.steps.directory import Directory
from tests.plan.conftest import Shop, shop
from tests.steps.conftest import Project

__all__ = ["shop"]

HERE = Place("specs/a.yaml", 3, 5)
EPOCH = 1_000_000_000
DAY = EPOCH // 86400
ROUNDS = int(os.environ.get("ACCOUNT_ROUNDS", "40"))
LOGIN_DEFS = """# comment
UID_MIN\t\t\t 1000
UID_MAX 60000
#SYS_UID_MIN 100
GID_MIN 1000
GID_MAX 60000
PASS_MAX_DAYS\t99999
PASS_MIN_DAYS 0
PASS_WARN_AGE 7
ENCRYPT_METHOD SHA512
"""
FILES = ("passwd", "group", "shadow", "gshadow", "login.defs")


def tree(*changes: Change) -> list[Change]:
    return sorted(changes, key=lambda each: each[0].path.split(b"/"))


def file(path: str, data: bytes, mode: int = 0o644, gid: int = 0) -> Change:
    return Entry(path.encode(), FILE, mode, 0, gid, size=len(data)), data


def folder(path: str) -> Change:
    return Entry(path.encode(), DIRECTORY, 0o755), None


def link(path: str, to: str) -> Change:
    return Entry(path.encode(), SYMLINK, 0o777, link=to.encode()), None


def image(shop: Shop, *changes: Change) -> Image:
    written = write_layer(tree(*changes), shop.store)
    assert written is not None
    return empty_image(Platform()).append(written.layer, {"created_by": "x"})


def base(shop: Shop, files: Mapping[str, bytes]) -> Image:
    modes = {"shadow": (0o640, 42), "gshadow": (0o640, 42)}
    made = [file(f"etc/{name}", data, *modes.get(name, ())) for name, data in files.items()]
    return image(shop, folder("etc"), *made)


def account(name: str = "app", **fields: Any) -> Account:
    return Account(HERE, None, name, **fields)


def written(
    shop: Shop, step: Any, on: Image, *, below: tuple[Any, ...] = (), epoch: int = EPOCH
) -> dict[str, tuple[Entry, bytes | None]]:
    """What the step puts into its layer, above others."""
    changes = shop.planned(*below, step, image=on, epoch=epoch).decision.changes  # type: ignore[union-attr]
    return {
        os.fsdecode(entry.path): (entry, content if isinstance(content, bytes) else None)
        for entry, content in changes.sorted()
    }


def texts(found: Mapping[str, tuple[Entry, bytes | None]]) -> dict[str, str]:
    return {path: data.decode() for path, (_, data) in found.items() if data is not None}


# -- against useradd ------------------------------------------------------------------------------


class Case:
    """A tree and an account, by chance."""

    def __init__(self, chance: random.Random) -> None:
        names = [f"{chance.choice('abcdefgh')}{n}" for n in range(chance.randrange(9))]
        pool = [0, 1, 5, 99, 100, 101, 102, 500, 998, 999, 1000, 1001, 1002, 59999, 60000, 60001]
        pool += [70000, 4294967294]
        uids, gids = chance.sample(pool, len(names)), chance.sample(pool, len(names))
        shadowed, gshadowed = chance.random() < 0.7, chance.random() < 0.6
        odd = ["broken", "# note", "big:x:99999999999:1:::", "", ":x:3:3::/:", "no:x:a:b:::"]
        passwd = [
            f"{n}:x:{u}:{g}::/home/{n}:/bin/sh" for n, u, g in zip(names, uids, gids, strict=True)
        ]
        group = [
            f"{n}:x:{g}:{','.join(self.some(chance, names))}"
            for n, g in zip(names, gids, strict=False)
        ]
        if chance.random() < 0.3:
            group.append("app:x:777:a1")
            gids.append(777)
        for lines in (passwd, group):
            for _ in range(chance.randrange(3)):
                lines.insert(chance.randrange(len(lines) + 1), chance.choice(odd))
            if chance.random() < 0.2:
                lines += ["+nis:::" if lines is group else "+nis::::::"]
        self.names = [
            line.split(":")[0] for line in group if line.count(":") == 3 and line[0] != "+"
        ]
        self.names = [each for each in self.names if each not in ("", "no")]
        end = b"" if chance.random() < 0.2 else b"\n"
        self.files = {"passwd": self.bytes(passwd, end), "group": self.bytes(group, end)}
        if shadowed:
            lines = [f"{n}:*:19000:0:99999:7:::" for n in names if chance.random() < 0.9]
            self.files["shadow"] = self.bytes(lines, end)
        if gshadowed:
            lines = [f"{n}:*::{','.join(self.some(chance, names))}" for n in self.names]
            self.files["gshadow"] = self.bytes(lines, end)
        if chance.random() < 0.7:
            text = LOGIN_DEFS  # a group's range as the account's: else useradd leaves the uid
            low = chance.choice([500, 1001])
            for line in (f"{{}}_MIN {low}", "SYS_{}_MAX 500", "{}_MAX 1003"):
                if chance.random() < 0.3:
                    text += "".join(f"{line.format(kind)}\n" for kind in ("UID", "GID"))
            if chance.random() < 0.3:
                text += "PASS_MIN_DAYS 3\nPASS_WARN_AGE\n"
            self.files["login.defs"] = text.encode()
        maybe = lambda value: value if chance.random() < 0.4 else None  # noqa: E731
        self.fields = {
            "uid": maybe(chance.choice([*pool, 1234, 777])),
            "gid": maybe(chance.choice([*pool, 1234, 777])),
            "groups": tuple(self.some(chance, self.names)),
            "system": chance.random() < 0.4,
            "home": maybe("/srv/app"),
            "shell": maybe("/bin/bash"),
        }
        self.gids = {
            line.split(":")[0]: int(line.split(":")[2])
            for line in group
            if line.split(":")[0] in self.names
        }

    @staticmethod
    def some(chance: random.Random, names: list[str]) -> list[str]:
        return [each for each in names if chance.random() < 0.3]

    @staticmethod
    def bytes(lines: list[str], end: bytes) -> bytes:
        return "\n".join(lines).encode() + (end if lines else b"")

    def useradd(self, root: Path) -> dict[str, str] | None:
        """The files after the same account was made by the real programs; None: they refused."""
        (root / "etc").mkdir(parents=True)
        for name, data in self.files.items():
            (root / "etc" / name).write_bytes(data)
        given, gids = self.fields, self.gids
        system = ["-r"] if given["system"] else []
        home, shell = given["home"] or "/home/app", given["shell"] or "/bin/sh"
        if given["system"] and not given["shell"]:
            shell = "/sbin/nologin"
        argv = ["useradd", *system, "-M", "-d", home, "-s", shell]
        uid, gid = given["uid"], given["gid"]
        if uid is not None:
            argv += ["-u", str(uid)]
        if given["groups"]:
            argv += ["-G", ",".join(given["groups"])]
        if gid in gids.values():
            argv += ["-g", str(gid)]
        elif "app" in gids:
            if gid is not None:
                return None
            argv += ["-g", "app"]
        elif gid is not None or (uid is not None and uid not in gids.values()):
            if not run(root, "groupadd", "-g", str(uid if gid is None else gid), "app"):
                return None
            argv += ["-g", "app"]
        else:
            argv += ["-U"]
        if not run(root, *argv, "app"):
            return None
        group = (root / "etc/group").read_text()  # useradd has ! for no password, groupadd x
        (root / "etc/group").write_text(re.sub("^app:!:", "app:x:", group, flags=re.M))
        return {
            f"etc/{name}": (root / "etc" / name).read_text()
            for name in FILES
            if (root / "etc" / name).exists()
        }


def run(root: Path, program: str, *argv: str) -> bool:
    env = {"PATH": "/usr/sbin:/usr/bin", "SOURCE_DATE_EPOCH": str(EPOCH)}
    done = subprocess.run([program, "-R", root, *argv], env=env, capture_output=True, timeout=60)
    return done.returncode == 0


@pytest.mark.root
@pytest.mark.needs("useradd", "groupadd")
def test_it_is_written_as_useradd_does(shop: Shop, tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("ACCOUNT_SEED", "1"))
    refused = 0
    for number in range(ROUNDS):
        case = Case(chance)
        expected = case.useradd(tmp_path / str(number))
        on = base(shop, case.files)
        step = account(**case.fields)
        if expected is None:
            refused += 1
            try:
                written(shop, step, on)
            except BuilderError:
                continue
            pytest.fail(f"useradd refuses {case.files} {case.fields}")
            continue
        before = {f"etc/{name}": data.decode() for name, data in case.files.items()}
        after = {**before, **texts(written(shop, step, on))}
        assert after == expected, (case.files, case.fields)
    assert 0 < refused < ROUNDS * 0.6


# -- trees ----------------------------------------------------------------------------------------

DEBIAN = {
    "passwd": b"root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n",
    "group": b"root:x:0:\nadm:x:4:\nwww-data:x:33:\n",
    "shadow": b"root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n",
    "gshadow": b"root:*::\nadm:*::\nwww-data:*::\n",
    "login.defs": LOGIN_DEFS.encode(),
}
ALPINE = {
    "passwd": b"root:x:0:0:root:/root:/bin/sh\nguest:x:405:100:guest:/dev/null:/sbin/nologin\n",
    "group": b"root:x:0:root\nusers:x:100:games\n",
    "shadow": b"root:*::0:::::\nguest:!::0:::::\n",
}
DISTROLESS = {
    "passwd": b"root:x:0:0:root:/root:/sbin/nologin\n"
    b"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
    "group": b"root:x:0:\nnonroot:x:65532:\n",
}


def test_on_debian(shop: Shop) -> None:
    found = written(shop, account(groups=("www-data", "4")), base(shop, DEBIAN))
    assert texts(found) == {
        "etc/passwd": DEBIAN["passwd"].decode() + "app:x:1000:1000::/home/app:/bin/sh\n",
        "etc/group": "root:x:0:\nadm:x:4:app\nwww-data:x:33:app\napp:x:1000:\n",
        "etc/shadow": DEBIAN["shadow"].decode() + f"app:!:{DAY}:0:99999:7:::\n",
        "etc/gshadow": "root:*::\nadm:*::app\nwww-data:*::app\napp:!::\n",
    }
    (home, _), (shadow, _) = found["home/app"], found["etc/shadow"]
    assert (home.type, home.mode, home.uid, home.gid) == (DIRECTORY, 0o755, 1000, 1000)
    assert (shadow.mode, shadow.uid, shadow.gid) == (0o640, 0, 42)
    assert (found["home"][0].uid, found["home"][0].mode) == (0, 0o755)


def test_a_system_account(shop: Shop) -> None:
    found = written(shop, account(system=True), base(shop, DEBIAN))
    assert texts(found)["etc/passwd"].endswith("\napp:x:999:999::/home/app:/sbin/nologin\n")
    assert texts(found)["etc/shadow"].endswith(f"\napp:!:{DAY}::::::\n")
    assert "home/app" not in found
    nologin = file("usr/sbin/nologin", b"", 0o755)
    made = [file(f"etc/{name}", data) for name, data in DEBIAN.items()]
    on = image(shop, folder("etc"), folder("usr"), folder("usr/sbin"), nologin, *made)
    found = written(shop, account(system=True, home="/srv/app"), on)
    assert ":/srv/app:/usr/sbin/nologin\n" in texts(found)["etc/passwd"]
    assert found["srv/app"][0].uid == 999


def test_on_alpine(shop: Shop) -> None:
    found = texts(written(shop, account(), base(shop, ALPINE)))
    assert found == {
        "etc/passwd": ALPINE["passwd"].decode() + "app:x:1000:1000::/home/app:/bin/sh\n",
        "etc/group": "root:x:0:root\nusers:x:100:games\napp:x:1000:\n",
        "etc/shadow": ALPINE["shadow"].decode() + f"app:!:{DAY}::::::\n",
    }


def test_on_distroless_and_on_scratch(shop: Shop) -> None:
    found = texts(written(shop, account(uid=10001), base(shop, DISTROLESS)))
    assert found["etc/passwd"].endswith(":/sbin/nologin\napp:!:10001:10001::/home/app:/bin/sh\n")
    assert set(found) == {"etc/passwd", "etc/group"}
    for epoch in (0, EPOCH):
        made = written(shop, account(uid=7, gid=8), empty_image(Platform()), epoch=epoch)
        assert texts(made) == {
            "etc/passwd": "app:!:7:8::/home/app:/bin/sh\n", "etc/group": "app:x:8:\n",
        }  # fmt: skip
        assert made["etc/passwd"][0][1:5] == (FILE, 0o644, 0, 0)


def test_no_day_0_which_would_ask_for_a_password(shop: Shop) -> None:
    found = texts(written(shop, account(), base(shop, ALPINE), epoch=0))
    assert found["etc/shadow"].endswith("\napp:!:::::::\n")


def test_root_has_its_number(shop: Shop) -> None:
    found = texts(written(shop, account("root"), empty_image(Platform())))
    assert found["etc/passwd"] == "root:!:0:0::/root:/bin/sh\n"


def test_another_base_makes_another_layer(shop: Shop) -> None:
    keys = {shop.key(account(), image=base(shop, files)) for files in (DEBIAN, ALPINE, DISTROLESS)}
    assert len(keys) == 3


# -- what is there --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"uid": 33},
        {"uid": 33, "gid": 33, "group": "www-data", "home": "/var/www", "system": True},
        {"shell": "/usr/sbin/nologin", "groups": ()},
    ],
)
def test_the_same_account_is_no_change(shop: Shop, fields: dict[str, Any]) -> None:
    www = [file(f"etc/{name}", data) for name, data in DEBIAN.items()]
    on = image(shop, folder("etc"), folder("var"), folder("var/www"), *www)
    assert written(shop, account("www-data", **fields), on) == {}


def test_it_joins_groups_and_has_its_home(shop: Shop) -> None:
    on = base(shop, DEBIAN)
    found = written(shop, account("www-data", home="/var/www", groups=("adm",)), on)
    assert set(texts(found)) == {"etc/group", "etc/gshadow"}
    assert found["var/www"][0].uid == 33
    again = account("www-data", groups=("adm",))
    assert written(shop, again, on, below=(again,)) == {}


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (
            "www-data",
            {"uid": 34},
            "'www-data' is in the image's /etc/passwd with the uid 33, not 34",
        ),
        ("www-data", {"gid": 34}, "with the gid 33, not 34"),
        ("www-data", {"home": "/srv"}, "with the home '/var/www', not '/srv'"),
        ("www-data", {"shell": "/bin/sh"}, "with the shell '/usr/sbin/nologin', not '/bin/sh'"),
        ("www-data", {"group": "adm"}, "gid 33, which is not the group 'adm'"),
        ("app", {"uid": 33}, "uid 33 is 'www-data' in the image's /etc/passwd, not 'app'"),
        ("app", {"group": "adm", "gid": 5}, "'adm' is in the image's /etc/group with the gid 4"),
        ("app", {"group": "new", "gid": 4}, "gid 4 is the group 'adm' in the image's /etc/group"),
        ("app", {"group": "www-dat"}, "group 'www-dat' is not in the image's /etc/group"),
        ("app", {"groups": ("www-dat",)}, "group 'www-dat' is not in the image's /etc/group"),
        ("app", {"groups": ("77",)}, "group '77' is not in the image's /etc/group"),
        ("app", {"home": "/etc/passwd"}, "'/etc/passwd' is a file in the image, not a home"),
    ],
)
def test_another_one_is_an_error(
    shop: Shop, name: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BuilderError) as at:
        written(shop, account(name, **fields), base(shop, DEBIAN))
    assert message in at.value.message and "\n" not in at.value.message


def test_a_missing_group_names_near_ones(shop: Shop) -> None:
    with pytest.raises(BuilderError) as at:
        written(shop, account(groups=("www-dat",)), base(shop, DEBIAN))
    assert at.value.hint == "did you mean 'www-data'?"


def test_a_group_of_its_own_name_is_its_own(shop: Shop) -> None:
    files = {**DEBIAN, "group": DEBIAN["group"] + b"app:x:500:\n"}
    found = texts(written(shop, account(), base(shop, files)))
    assert found["etc/passwd"].endswith("app:x:1000:500::/home/app:/bin/sh\n")
    assert "etc/group" not in found
    found = texts(written(shop, account(group="nodejs", gid=1001), base(shop, DEBIAN)))
    assert found["etc/group"].endswith("\nnodejs:x:1001:\n")
    assert found["etc/passwd"].endswith("app:x:1000:1001::/home/app:/bin/sh\n")


# -- hostile files --------------------------------------------------------------------------------


def test_files_behind_links(shop: Shop) -> None:
    on = image(
        shop,
        *(folder(each) for each in ("etc", "usr", "usr/lib", "real")),
        *(link("etc/passwd", "../usr/lib/accounts"), link("etc/group", "/usr/lib/groups")),
        *(file("usr/lib/accounts", DEBIAN["passwd"], 0o600, 9), link("home", "real")),
        *(link("etc/shadow", "missing"), file("usr/lib/groups", DEBIAN["group"])),
    )
    found = written(shop, account(), on)
    assert set(texts(found)) == {"usr/lib/accounts", "usr/lib/groups"}
    entry = found["usr/lib/accounts"][0]
    assert (entry.mode, entry.gid) == (0o600, 9) and "real/app" in found
    above = written(shop, Directory(HERE, None, "/d", owner="app:app"), on, below=(account(),))
    assert (above["d"][0].uid, above["d"][0].gid) == (1000, 1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([folder("etc/passwd")], "'/etc/passwd' is no regular file"),
        ([link("etc/passwd", "passwd")], "more than 40 symlinks"),
        ([link("etc/passwd", "/proc/self/x")], "leads to '/proc/self/x'"),
        ([link("etc/passwd", "group"), file("etc/group", b"")], "is a link to another file"),
        ([file("etc/passwd", b"#" * (1 << 20) + b"\n")], "its contents are not known"),
        ([file("etc/passwd", b"#" * ((1 << 20) - 2) + b"\n")], "larger than 1048576 bytes"),
        ([file("etc/login.defs", b"UID_MIN 9\nUID_MAX 5\n")], "no uid from 9 to 5 is free"),
        ([link("home", "/etc/passwd")], "'/home/app' is a file in the image, not a home"),
    ],
)
def test_what_cannot_be_written_is_said(shop: Shop, changes: list[Change], message: str) -> None:
    with pytest.raises(BuilderError) as at:
        written(shop, account(), image(shop, folder("etc"), *changes))
    assert message in at.value.message and at.value.place == HERE
    assert "owners and users as numbers" not in (at.value.hint or "")


def test_what_is_not_the_account_keeps_its_bytes(shop: Shop) -> None:
    passwd = b"root:x:0:0::/:/bin/sh\r\n\xff\xfe:x:1:1::/:\r\n\0\0:\n#c\n\nroot:x:9:9::/:/\n"
    group = b"adm:x:4:a\r\nadm:x:4:b\nshort:x:7\nmore:x:8:a:b\nempty:x:9:"
    on = base(shop, {"passwd": passwd, "group": group})
    found = written(shop, account(groups=("adm", "short", "more", "empty")), on)
    assert found["etc/passwd"][1] == passwd + b"app:!:1000:1000::/home/app:/bin/sh\n"
    joined = b"adm:x:4:a,app\r\nadm:x:4:b\nshort:x:7:app\nmore:x:8:a,app:b\nempty:x:9:app\n"
    assert found["etc/group"][1] == joined + b"app:x:1000:\n"


def test_a_password_that_was_left_behind_is_nobodys(shop: Shop) -> None:
    files = {
        **DEBIAN,
        "shadow": b"app:$6$x:1:::::: \nroot:*::::::\n",
        "gshadow": b"app:secret:a:b\n",
    }
    found = texts(written(shop, account(), base(shop, files)))
    assert found["etc/shadow"] == f"app:!:{DAY}:0:99999:7:::\nroot:*::::::\n"
    assert found["etc/gshadow"] == "app:!::\n"


@pytest.mark.parametrize("home", ["/nonexistent", "/dev/null", "/proc/x"])
def test_a_home_that_says_that_there_is_none_is_not_made(shop: Shop, home: str) -> None:
    found = written(shop, account(home=home), base(shop, DEBIAN))
    assert f"::{home}:" in texts(found)["etc/passwd"]
    assert set(found) <= {f"etc/{name}" for name in FILES}


def test_numbers_run_out(shop: Shop) -> None:
    defs = b"UID_MIN 10\nUID_MAX 11\nGID_MIN 10\nGID_MAX 4294967294\n"
    files = {"login.defs": defs, "passwd": b"a:x:10:1::/:/\nb:x:11:1::/:/\n", "group": b""}
    with pytest.raises(BuilderError, match="no uid from 10 to 11 is free"):
        written(shop, account(), base(shop, files))


def test_a_shell_that_is_missing_is_noted(shop: Shop) -> None:
    planned = shop.planned(account(shell="/bin/zsh"), image=base(shop, DEBIAN))
    assert planned.notes == ("the shell '/bin/zsh' is not in the image",)
    assert not shop.planned(account(shell="/sbin/nologin"), image=base(shop, DEBIAN)).notes


# -- in a spec ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("account", "a:b", "is not a name of an account"),
        ("account", "-app", "is not a name of an account"),
        ("account", "a" * 33, "is not a name of an account"),
        ("account", "12", "is not a name of an account"),
        ("account", "..", "is not a name of an account"),
        ("account", "a b", "is not a name of an account"),
        ("account", "a\\nb", "is not a name of an account"),
        ("account", "ä", "is not a name of an account"),
        ("uid", "-1", "expected a whole number from 0 to 4294967294"),
        ("uid", "4294967295", "expected a whole number from 0 to 4294967294"),
        ("gid", "staff", "expected a whole number from 0 to 4294967294"),
        ("groups", "a:b", "is not a group's name"),
        ("groups", "a,b", "is not a group's name"),
        ("home", "srv", "is not a path that an account file holds"),
        ("home", "/a:b", "is not a path that an account file holds"),
        ("home", "/a\\nroot2:x:0:0::/:/bin/sh", "is not a path that an account file holds"),
        ("home", "/a/../b", "leaves the image"),
        ("shell", "/bin/sh:x", "is not a path that an account file holds"),
        ("shell", "sh", "is not a path that an account file holds"),
        ("system", "yes", "expected true or false"),
    ],
)
def test_what_no_account_file_holds_is_refused(
    tmp_path: Path, field: str, value: str, message: str
) -> None:
    step = {"account": "app", field: value}
    text = ", ".join(f'{name}: "{each}"' for name, each in step.items())
    path = tmp_path / "a.yaml"
    path.write_text(f"from: scratch\nsteps:\n  - {{{text}}}\n")
    with pytest.raises(SpecErrors) as at:
        load_spec(str(path), environ={})
    assert message in at.value.message


@pytest.mark.parametrize("name", ["app", "_apt", "App.x", "web-1", "machine$", "a" * 32, "9p"])
def test_names_that_useradd_takes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"from: scratch\nsteps: [{{account: {name!r}}}]\n")
    assert load_spec(str(path), environ={}).steps[0].account == name  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("step", "place"),
    [
        ("file: /a\n    content: x\n    owner: nobody", "specs/a.yaml:6:12"),
        ("directory: /a\n    mode: '0700'\n    owner: root:nobody", "specs/a.yaml:6:12"),
        ("{owner: &o nobody, directory: /a}", "specs/a.yaml:4:13"),
        ("account: app\n    home: /b\n    uid: 7", "specs/a.yaml:6:10"),
        ("account: app\n    groups: [staff]", "specs/a.yaml:5:13"),
    ],
)
def test_an_error_is_at_the_value(project: Project, step: str, place: str) -> None:
    project.spec("a", f"from: scratch\nsteps:\n  - {{account: x, uid: 7}}\n  - {step}\n")
    for _ in range(2):  # read, and kept
        told = project.run("build", "a", status=2).stderr
        assert f"error: {place}: " in told


def test_the_hint_leads_to_an_image(project: Project) -> None:
    steps = ["{directory: /a, owner: app}"]
    project.spec("a", f"from: scratch\nsteps: [{steps[0]}]\n")
    assert "`account: NAME` before this one" in project.run("build", "a", status=2).stderr
    project.spec("a", f"from: scratch\nsteps: [{{account: app}}, {steps[0]}]\n")
    project.build("a")


@pytest.mark.root
@pytest.mark.needs("busybox")
def test_steps_below_and_above_it(box: Project, tmp_path: Path) -> None:
    spec = """
from: rootfs:box.tar
steps:
  - {run: "echo crew:x:90: >/etc/group", USER}
  - {account: web, groups: [crew], uid: 1500}
  - {file: /srv/mine, content: x, owner: "web:crew"}
  - run: id >/tmp/id && echo $HOME >>/tmp/id && ls -ln /srv/mine >>/tmp/id
  - {account: second}
config: {user: web}
"""
    box.spec("a", spec.replace(", USER", ""))  # config's user is not there yet
    told = box.run("build", "a", status=2).stderr
    assert "error: specs/a.yaml:4:11: user 'web' is not in" in told and "user: root" in told
    box.spec("a", spec.replace("USER", "user: root"))
    assert [status for status, _ in box.plan("a")["a"]] == ["build", *["unknown"] * 4]
    box.build("a", "-o", f"dir:{tmp_path}/out")
    told = (tmp_path / "out/tmp/id").read_text()
    assert told.startswith("uid=1500(web) gid=1500(web) groups=") and "90(crew)" in told
    assert "/home/web\n" in told and re.search("1500 +90 .*/srv/mine", told)
    assert (tmp_path / "out/etc/passwd").read_text().splitlines()[-2:] == [
        "web:!:1500:1500::/home/web:/bin/sh",
        "second:!:1501:1501::/home/second:/bin/sh",
    ]
    assert [status for status, _ in box.plan("a")["a"]] == ["hit"] * 5
