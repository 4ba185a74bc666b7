"""Fetcher: what brings files from servers into the store, for one run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.errors import without_passwords
from builder.events import Emit, Noted, ignore
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    from builder.spec.address import Checksum
    from builder.store.store import Store
    from builder.transport.base import Tell
    from builder.transport.download import Downloads, Progress


class Fetcher:
    """Safe for threads; connects when it must. `close` ends its connections."""

    def __init__(
        self,
        store: Store,
        environ: Mapping[str, str],
        insecure: frozenset[str] = frozenset(),  # as Settings has it
        emit: Emit = ignore,
        cancel: Cancel | None = None,
    ) -> None:
        self._store, self._environ, self._insecure = store, environ, insecure
        self._emit, self._cancel = emit, cancel or Cancel()
        self._connecting = threading.Lock()
        self._downloads: Downloads | None = None

    def download(self, url: str, checksum: Checksum, progress: Progress) -> None:
        self._connected().fetch(url, checksum, progress)

    def checksum_now(self, url: str) -> str:
        """The sha256 of what an address gives now, which is in the store then."""
        self._emit(Noted(f"asking {without_passwords(url)}"))
        return self._connected().current(url)[7:]

    def commit_now(self, url: str, ref: str) -> str:
        """The id of the commit that a branch or a tag is now; `ref`: "" for HEAD."""
        from builder.transport.git import commit_of

        self._emit(Noted(f"asking {without_passwords(url)}"))
        return commit_of(self._store, url, ref, environment=self._environ, cancel=self._cancel)

    def _connected(self) -> Downloads:
        with self._connecting:
            if self._downloads is None:
                from builder.transport.download import Downloads
                from builder.transport.registry.settings import settings_from

                settings = settings_from(self._environ, insecure=self._insecure)
                self._downloads = Downloads(
                    self._store, settings, self._environ, self._emit, self._cancel
                )
            return self._downloads

    def commit(self, url: str, commit: str, subdir: str, tell: Tell) -> None:
        from builder.transport.git import fetch

        fetch(
            self._store, url, commit, subdir,
            environment=self._environ, tell=tell, cancel=self._cancel,
        )  # fmt: skip

    def close(self) -> None:
        if self._downloads is not None:
            self._downloads.close()
