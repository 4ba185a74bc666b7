"""JSON lines: every event as one object, for programs that follow a build.

{"event": "step_done", "image": "site", "step": 1, "name": "pages", "status": "built", ...}

What a step prints is an object for each line.
"""

from __future__ import annotations

import json
from threading import Lock
from typing import Self, TextIO, get_args

from builder.events import Event, StepOutput

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
        name = NAMES[type(event)]
        if isinstance(event, StepOutput):
            head = json.dumps({"event": name, "image": event.image, "step": event.step})[:-1]
            lines = event.text.split("\n")
            text = "".join(f'{head}, "line": {json.dumps(line)}}}\n' for line in lines)
        else:
            text = json.dumps({"event": name, **event._asdict()}) + "\n"
        with self._lock:
            if self._stream is None:
                return
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:  # whoever read it has gone; that is no reason to stop a build
                self._stream = None

    def close(self) -> None:
        """Nothing is held back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
