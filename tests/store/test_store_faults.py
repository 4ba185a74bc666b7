"""Every file call fails once: an error that says what and where, never a torn name."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from builder.errors import StoreError
from builder.oci import media
from builder.oci.digest import digest_of
from builder.oci.image import Descriptor, Platform
from builder.store import records, unpacked
from builder.store.check import check
from builder.store.gc import gc
from builder.store.names import ImageName
from builder.store.store import Store

SITE = ImageName("site", Platform())
OLD = b'{"old": 1}'
NEW = b'{"new": 2}'
BIG = bytes(range(256)) * 3000
DIFF_ID = digest_of(b"a layer")
ERRORS = [
    errno.ENOSPC,
    errno.EIO,
    errno.EDQUOT,
    errno.EROFS,
    errno.EMFILE,
    errno.EINTR,
    errno.EACCES,
    errno.ENOLCK,
    None,
]


def work(store: Store) -> None:
    """All that writes, as a build does it."""
    with store.live():
        old = store.put(OLD, media.MANIFEST)
        with store.lock("a" * 64, "build a"):
            with store.incoming() as incoming:
                incoming.write(BIG[:1000])
                incoming.write(BIG[1000:])
                layer = incoming.publish(media.LAYER)
            store.claim(layer)
            store.save("records", "b" * 64, NEW)
        store.tag(ImageName("site", Platform()), store.put(NEW, media.MANIFEST))
        store.tag(ImageName("old", Platform()), old)
        store.untag(ImageName("old", Platform()))
        folder = store.temporary()
        Path(folder, "file").write_bytes(b"x")
        unpacked.publish(store, folder, DIFF_ID, DIFF_ID)
        unpacked.claim(store, DIFF_ID)
        with store.open(layer) as file:
            assert file.read() == BIG
    os.utime(store.blob_path(layer.digest), (0, 0))
    gc(store, max_age=86400)


@pytest.mark.parametrize("code", ERRORS, ids=lambda code: errno.errorcode.get(code, "interrupt"))
def test_any_file_call_may_fail_once(fast_path: Path, faulty: Any, code: int | None) -> None:
    root = str(fast_path / "store")
    first = Store(root)
    first.save("records", "b" * 64, OLD)
    first.close()

    def error() -> BaseException:
        return OSError(code, os.strerror(code)) if code else KeyboardInterrupt()

    failures = 0
    at = 0
    while True:
        at += 1
        files = faulty(at, error)
        store = None
        try:
            store = Store(root, files=files)
            work(store)
        except StoreError as found:
            failures += 1
            assert "\n" not in found.message
            assert any(each in found.message for each in (root, "blob sha256:", "/proc/sys"))
        except KeyboardInterrupt:
            assert code is None
        finally:
            if store:
                store.close()
        if files.count < at:
            break
        whole = Store(root)
        assert whole.load("records", "b" * 64) in (OLD, NEW)
        assert whole.names().get(SITE, NEW_MANIFEST) == NEW_MANIFEST
        assert [problem.text for problem in check(whole) if "image" not in problem.text] == []
    assert failures > 20 or code is None
    work(Store(root))
    assert Store(root).names() == {SITE: NEW_MANIFEST}
    assert os.listdir(os.path.join(root, "tmp")) == []
    assert os.listdir(os.path.join(root, "live")) == []


NEW_MANIFEST = Descriptor(media.MANIFEST, digest_of(NEW), len(NEW))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, None])
def test_any_file_call_may_fail_while_a_store_is_made(
    fast_path: Path, faulty: Any, code: int | None
) -> None:
    def error() -> BaseException:
        return OSError(code, os.strerror(code)) if code else KeyboardInterrupt()

    for at in range(1, 1000):
        root = str(fast_path / f"store{at}")
        files = faulty(at, error)
        try:
            Store(root, files=files)
        except (StoreError, KeyboardInterrupt):
            pass
        if files.count < at:
            break
        assert Store(root).put(OLD, media.CONFIG).size == len(OLD)
        assert Store(root).names() == {}
    assert at > 20


def test_a_full_disk_is_said_with_the_bytes_needed_and_a_hint(tmp_path: Path, faulty: Any) -> None:
    root = str(tmp_path / "store")
    Store(root)
    messages = []
    for at in range(1, 60):
        try:
            store = Store(root, files=faulty(at, lambda: OSError(errno.ENOSPC, "No space left")))
            with store.incoming() as incoming:
                incoming.write(bytes(1_200_000))
                incoming.publish(media.LAYER)
        except StoreError as error:
            messages.append((error.message, error.hint))
    wanted = f"no space left on the device that holds {root}: 1.2 MB needed"
    assert any(wanted in message for message, _ in messages)
    assert all("`builder cache gc` frees space" in (hint or "") for _, hint in messages)


@pytest.mark.root
@pytest.mark.needs("mount", "umount")
def test_what_is_cached_still_builds_on_a_full_disk(tmp_path: Path) -> None:
    import subprocess

    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(mount)], check=True)
    try:
        for room in range(0, 200_000, 14_000):
            root = str(mount / f"store{room}")
            store = Store(root)
            kept = store.put(OLD, media.CONFIG)
            store.save("records", "b" * 64, OLD)
            filler = mount / "filler"
            free = os.statvfs(mount)
            with filler.open("wb") as file:
                file.write(bytes(max(0, free.f_bavail * free.f_frsize - room)))
            full = pytest.raises(StoreError, match="no space left on the device")
            with store.live(), full, store.incoming() as incoming:
                incoming.write(bytes(300_000))
                incoming.publish(media.LAYER)
            again = Store(root)
            with again.live():
                assert again.claim(kept)
                assert again.read(kept) == OLD
                assert again.load("records", "b" * 64) == OLD
            assert os.listdir(os.path.join(root, "tmp")) == []
            filler.unlink()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)  # a store keeps its folder open


def test_records_are_read_beside_failures(tmp_path: Path, faulty: Any) -> None:
    root = str(tmp_path / "store")
    key = records.CacheKey("c" * 64)
    value = records.Record(records.DiffID(digest_of(b"l")), 1.5, 1700000000)
    records.save_record(Store(root), key, value)
    for at in range(1, 30):
        files = faulty(at, lambda: OSError(errno.EIO, "Input/output error"))
        try:
            assert records.load_record(Store(root, files=files), key) in (value, None)
        except StoreError as error:
            assert root in error.message
