"""Account files that are links, and what they lead to: names of owners are found all the same."""

from __future__ import annotations

from typing import Any

import pytest

from builder.errors import BuilderError
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, SYMLINK, Change, Entry
from builder.layer.write import write_layer
from builder.oci.image import Image, Platform, empty_image
from builder.spec.model import Place
from builder.steps.copy import Copy
from builder.steps.directory import Directory
from builder.steps.symlink import Symlink

HERE = Place("specs/a.yaml", 3, 5)
PASSWD = b"root:x:0:0::/root:/bin/sh\nwww:x:33:34::/:/bin/sh\n"
GROUP = b"root:x:0:\nstaff:x:50:\n"


def base(shop: Any, *layers: list[Change]) -> Image:
    image = empty_image(Platform())
    for changes in layers:
        written = write_layer(
            sorted(changes, key=lambda each: each[0].path.split(b"/")), shop.store
        )
        assert written is not None
        image = image.append(written.layer, {"created_by": "x"})
    return image


def folder(path: bytes) -> Change:
    return Entry(path, DIRECTORY, 0o755), None


def file(path: bytes, data: bytes) -> Change:
    return Entry(path, FILE, 0o644, size=len(data)), data


def link(path: bytes, to: bytes) -> Change:
    return Entry(path, SYMLINK, 0o777, link=to), None


BASES: dict[str, list[list[Change]]] = {
    "a symlink": [
        [
            folder(b"etc"), link(b"etc/passwd", b"../usr/accounts"),
            link(b"etc/group", b"/usr/groups"), folder(b"usr"), file(b"usr/accounts", PASSWD),
            file(b"usr/groups", GROUP),
        ]
    ],
    "symlinks over layers": [
        [folder(b"usr"), file(b"usr/accounts", b"old"), file(b"usr/groups", GROUP)],
        [folder(b"etc"), link(b"etc/passwd", b"one"), link(b"etc/one", b"/usr/accounts")],
        [file(b"usr/accounts", PASSWD), link(b"etc/group", b"../usr/groups")],
    ],
    "a hard link": [
        [
            folder(b"etc"), file(b"etc/a", PASSWD), file(b"etc/b", GROUP),
            (Entry(b"etc/passwd", HARDLINK, 0o644, link=b"etc/a"), None),
            (Entry(b"etc/group", HARDLINK, 0o644, link=b"etc/b"), None),
        ]
    ],
    "a folder that is a link": [
        [
            folder(b"conf"), file(b"conf/passwd", PASSWD), file(b"conf/group", GROUP),
            link(b"etc", b"conf"),
        ]
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", BASES)
def test_a_base_has_its_accounts_behind_links(shop: Any, name: str) -> None:
    image = base(shop, *BASES[name])
    step = Directory(HERE, None, "/d", owner="www:staff")
    entry = shop.entries(step, image=image)["d"]
    assert (entry.uid, entry.gid) == (33, 50)


@pytest.mark.parametrize("hard", [True, False])
def test_a_step_makes_such_a_link(shop: Any, hard: bool) -> None:
    root = shop.context / "etc"
    root.mkdir()
    (root / "accounts").write_bytes(PASSWD)
    if hard:
        (root / "passwd").hardlink_to(root / "accounts")
        above = []
    else:
        above = [Symlink(HERE, None, "/etc/passwd", "accounts")]
    image = base(shop, [folder(b"etc"), file(b"etc/group", GROUP)])
    steps = (Copy(HERE, None, ("etc",), "/etc/"), *above, Directory(HERE, None, "/d", owner="www"))
    entry = shop.entries(*steps, image=image)["d"]
    assert (entry.uid, entry.gid) == (33, 34)


def test_what_is_too_large_is_no_account_file(shop: Any) -> None:
    large = PASSWD + b"#" * (1 << 20)
    image = base(shop, [folder(b"etc"), file(b"etc/large", large), link(b"etc/passwd", b"large")])
    with pytest.raises(BuilderError, match="etc/large: its contents are not known"):
        shop.planned(Directory(HERE, None, "/d", owner="www"), image=image)
