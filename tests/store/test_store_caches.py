"""Caches of steps beside failures of the disk: what lies in one is there afterwards."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.errors import LayerError, StoreError
from builder.make.caches import export
from builder.store import caches
from builder.store.caches import Use
from builder.store.store import Store

PLATFORM = "linux/amd64"


def _use(store: Store, sharing: str = "shared") -> Use:
    return Use(store, "c", PLATFORM, sharing, "a test")


def _filled(root: Path) -> None:
    with _use(Store(str(root))).held() as copy:
        (Path(copy.data) / "file").write_text("kept")


def _is_whole(root: Path) -> bool:
    with _use(Store(str(root)), "private").held() as copy:
        file = Path(copy.data) / "file"
        return not copy.new and file.exists() and file.read_text() == "kept"


@pytest.mark.parametrize("sharing", ["shared", "locked", "private"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE])
def test_a_failing_call_costs_no_cache(
    fast_path: Path, faulty: Any, code: int, sharing: str
) -> None:
    root = fast_path / "store"
    _filled(root)
    had = 0
    lost = []
    for at in range(1, 400):
        files = faulty(at, lambda: OSError(code, os.strerror(code)))
        try:
            with _use(Store(str(root), files=files), sharing).held() as copy:
                had += copy.kept
        except StoreError as error:
            assert str(root) in error.message or "lock" in error.message
        if files.count < at:
            break
        if not _is_whole(root):
            lost.append(at)
            shutil.rmtree(root)
            _filled(root)
    else:
        raise AssertionError("it takes more calls")
    assert had
    assert len(lost) <= 1, lost  # the call that takes a mark away: it says that the step was killed


@pytest.mark.parametrize("error", [LayerError("no"), StoreError("no"), OSError(28, "full")])
def test_a_new_one_that_was_not_filled_is_thrown_away(store: Store, error: Exception) -> None:
    for _ in range(2):
        with pytest.raises(type(error)), _use(store).held() as copy:
            assert copy.new
            (Path(copy.data) / "half").touch()
            raise error
    with _use(store).held() as copy:
        assert copy.new
    with pytest.raises(LayerError), _use(store).held() as copy:
        assert not copy.new
        raise LayerError("no")
    with _use(store).held() as copy:
        assert not copy.new


@pytest.mark.root
@pytest.mark.needs("mount", "umount")
def test_a_full_disk_costs_no_cache_and_a_cache_can_go(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(mount)], check=True)
    try:
        root, filler = mount / "store", mount / "filler"
        _filled(root)
        for room in (0, 1, 2, 3, 5, 8):
            free = os.statvfs(mount)
            filler.write_bytes(bytes(free.f_bavail * free.f_frsize - room * free.f_frsize))
            with _use(Store(str(root))).held():
                pass
            try:
                with (tmp_path / "c.tar").open("wb") as out:
                    export(Store(str(root)), "c", PLATFORM, out)
                assert b"kept" in (tmp_path / "c.tar").read_bytes()
            except StoreError as error:
                assert "no space left" in error.message or "nothing to export" in error.message
            filler.unlink()
            assert _is_whole(root), room
        free = os.statvfs(mount)
        filler.write_bytes(bytes(free.f_bavail * free.f_frsize))
        assert caches.remove(Store(str(root)), "c") == 1
        assert caches.listed(Store(str(root))) == []
        shutil.rmtree(root)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
