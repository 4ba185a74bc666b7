"""JSON lines: every event as one object, for programs that follow a build.

{"event": "step_done", "image": "site", "step": 1, "name": "pages", "status": "built", ...}
"""

from __future__ import annotations

import json
from threading import Lock
from typing import Self, TextIO, get_args

from builder.events import Event

NAMES: dict[type, str] = {
    kind: "".join("_" + char.lower() if char.isupper() else char for char in kind.__name__)[1:]
    for kind in get_args(Event)
}


class JsonLines:
    shows_output = True

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        line = json.dumps({"event": NAMES[type(event)], **event._asdict()}) + "\n"
        with self._lock:
            if self._stream is None:
                return
            try:
                self._stream.write(line)
                self._stream.flush()
            except OSError:  # whoever read it has gone; that is no reason to stop a build
                self._stream = None

    def close(self) -> None:
        """Nothing is held back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
