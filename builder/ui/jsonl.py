"""JSON lines: every event as one object, for programs that follow a build.

{"event": "step_done", "time": 1700000000.123, "image": "site", "step": 1, "name": "pages", ...}

`time` is in seconds since the epoch. What a step prints is an object for each line. The last object
of a build that failed is {"event": "error", ...}, with what `--json` says of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from threading import Lock
from time import time
from typing import Any, Self, TextIO, get_args

from builder.events import Event, StepOutput

NAMES: dict[type, str] = {
    kind: "".join("_" + char.lower() if char.isupper() else char for char in kind.__name__)[1:]
    for kind in get_args(Event)
}


def line(name: str, fields: Mapping[str, Any]) -> str:
    return json.dumps({"event": name, "time": round(time(), 3), **fields}) + "\n"


class JsonLines:
    shows_output = True

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        name = NAMES[type(event)]
        if isinstance(event, StepOutput):
            head = line(name, {"image": event.image, "step": event.step})[:-2]
            lines = event.text.split("\n")
            text = "".join(f'{head}, "line": {json.dumps(each)}}}\n' for each in lines)
        else:
            fields = event._asdict()
            fields.pop("excerpt", None)  # all of it was told, and the error has what matters
            if place := fields.get("place"):
                fields["place"] = place._asdict()
            text = line(name, fields)
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
