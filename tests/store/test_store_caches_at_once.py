"""Caches as steps take and leave them, seen from another builder at each moment."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import BuilderError, CommandFailed
from builder.store.caches import Use
from builder.store.files import Files
from builder.store.store import Store

PLATFORM = "linux/amd64"


def use(store: Store, sharing: str = "shared") -> Use:
    return Use(store, "c", PLATFORM, sharing, "a test")


class Watched(Files):
    """Calls `then` after each call of a kind."""

    after = ""
    then: Callable[[], None] = staticmethod(lambda: None)

    def _tell(self, kind: str) -> None:
        if kind == self.after:
            self.after = ""
            type(self).then()

    def listdir(self, path: str) -> list[str]:
        found = super().listdir(path)
        if os.path.dirname(os.path.dirname(path)).endswith("/caches"):
            self._tell("listdir")
        return found

    def open(self, path: str, flags: int) -> int:
        handle = super().open(path, flags)
        if os.path.basename(path).startswith("use-") and not flags & os.O_CREAT:
            self._tell("open")
        return handle


@pytest.mark.parametrize("moment", ["listdir", "open"])
def test_a_step_that_ends_while_another_looks_leaves_its_cache(tmp_path: Path, moment: str) -> None:
    """It takes its mark away without the lock."""
    files = Watched()
    mine, other = Store(str(tmp_path)), Store(str(tmp_path), files=files)
    with mine.live(), other.live():
        first = use(mine)
        with first.held() as copy:
            Path(copy.data, "file").write_text("kept")
            handle = first._handle

            def end() -> None:
                os.unlink(first._mark)
                os.close(handle)
                first._handle = os.open(os.devnull, os.O_RDONLY)

            Watched.then = staticmethod(end)
            files.after = moment
            with use(other).held() as seen:
                assert seen.kept
                assert os.listdir(seen.data) == ["file"]
            assert not files.after


@pytest.mark.parametrize(("status", "kept"), [(1, True), (255, True), (137, False), (124, False)])
def test_what_a_signal_ended_throws_a_cache_away(tmp_path: Path, status: int, kept: bool) -> None:
    store = Store(str(tmp_path))
    with store.live():
        with pytest.raises(CommandFailed), use(store).held() as copy:
            Path(copy.data, "file").write_text("")
            raise CommandFailed("ended", exit_status=status, tail=())
        with use(store).held() as copy:
            assert os.listdir(copy.data) == (["file"] if kept else [])


def test_nobody_waits_for_a_step_that_got_no_cache(tmp_path: Path) -> None:
    class Full(Files):
        def write(self, handle: int, data: object) -> int:
            if data == b"locked":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(handle, data)  # type: ignore[arg-type]

    store, full = Store(str(tmp_path)), Store(str(tmp_path), files=Full())
    with store.live(), full.live():
        with use(store, "locked").held() as copy:
            assert copy.kept
        with use(full, "locked").held() as copy:
            assert not copy.kept
        assert use(store)._try() is not None


def test_a_cache_that_is_being_filled_is_nobody_elses(tmp_path: Path) -> None:
    """What could not be filled starts again; nobody has half of it."""
    store = Store(str(tmp_path))

    def half(folder: str) -> None:
        Path(folder, "half").write_text("")
        with store.lock(f"cache-{use(store)._id}"):
            assert use(store)._try() is None
        raise BuilderError("no more")

    def whole(folder: str) -> None:
        Path(folder, "whole").write_text("")

    with store.live():
        with pytest.raises(BuilderError, match="no more"), use(store).held(half):
            raise AssertionError
        with use(store).held(whole) as copy:
            assert os.listdir(copy.data) == ["whole"]
            with use(store).held(half) as same:
                assert same.data == copy.data
