"""Cancel: one word from the main thread to all that works for it."""

from __future__ import annotations

import os
import threading


class Cancel(threading.Event):
    """An event that a `select` can wait for beside other descriptors. Once set it stays so.

    Signals reach the main thread only: it sets this, and whoever waits in another thread for a
    process, a lock or a server ends what it does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handle = -1
        self._opening = threading.Lock()

    def set(self) -> None:
        super().set()
        with self._opening:
            if self._handle >= 0:
                os.eventfd_write(self._handle, 1)

    def fileno(self) -> int:
        """A descriptor that is readable once this is set; never to be read or closed by others."""
        with self._opening:
            if self._handle < 0:
                self._handle = os.eventfd(int(self.is_set()), os.EFD_CLOEXEC)
            return self._handle

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
