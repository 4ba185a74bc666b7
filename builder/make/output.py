"""Output: what a step prints while it is made: told at once, and kept as its log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.errors import Excerpt, without_passwords
from builder.events import Lines, StepOutput
from builder.make.excerpt import excerpt
from builder.store.logs import Failure, Log
from builder.store.records import failed_log

if TYPE_CHECKING:
    from builder.make.workshop import Workshop
    from builder.spec.model import ImageSpec


class Output:
    """Of step `number` of an image, 0 for its base; told as one of the image `told`."""

    def __init__(self, shop: Workshop, spec: ImageSpec, number: int, told: str = "") -> None:
        self._shop, self._spec, self._number = shop, spec, number
        self._told = told or spec.label
        self._log = Log()
        self._excerpt: Excerpt | None = None

    def take(self, text: str) -> None:
        """Lines that may be told."""
        self._log.write(text)
        self._shop.emit(StepOutput(self._told, self._number, text))

    def lines(self) -> Lines:
        """What an outside tool prints, which may name addresses with passwords."""
        guard = self._shop.guard

        def take(text: str) -> None:
            text = without_passwords(text)
            self.take(guard.mask.text(text) if guard else text)

        return Lines(take)

    def save(self, name: str) -> None:
        """It was made: `name` is that of its log."""
        self._log.save(self._shop.store, name)

    def fail(
        self, name: str, message: str, steps: Iterable[tuple[int, str, str]], chain: str = ""
    ) -> Excerpt:
        """It failed; `steps` before it were made, on a base with this chain. Gives what is shown of
        what it printed."""
        shop, spec = self._shop, self._spec
        if self._excerpt is None:
            guard, image = shop.guard, shop.planner.name_of(spec)
            said = guard.mask.text(message) if guard else message
            failure = Failure(image, self._number, name, said, int(shop.now()), tuple(steps), chain)
            log = self._log
            kept = log.save(shop.store, failed_log(image), failure)
            command = f"builder logs {spec.name} {self._number or 'base'}" if kept else ""
            if kept and spec.task:
                command += f" --platform {image.platform}"
            self._excerpt = excerpt(log.ended(), log.lines, command)
        return self._excerpt
