"""`builder test`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from builder.cli import screen, wiring
from builder.errors import BuilderError, UsageError
from builder.events import Event, TestDone
from builder.project import Project

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.spec.model import ImageSpec
    from builder.testing.tester import Result

_WORDS = {"passed": "ok", "cached": "ok, as before", "failed": "FAILED", "skipped": "skipped"}


def test(arguments: argparse.Namespace) -> int:
    """Every image is built and tested, whatever fails."""
    if arguments.junit:
        from builder.transport.target import check_target

        with _naming(arguments.junit):
            check_target(arguments.junit)
    early: list[Event] = []
    project = Project(wiring.options(arguments)._replace(keep_going=True), early.append)
    specs, _ = project.load(arguments.images)
    project.become_root(specs)
    shown = screen.renderer(arguments.progress)
    failure: BuilderError | None = None
    with shown as emit:
        project.tell(lambda event: emit(_unlisted(event, arguments.progress)))
        for event in early:
            emit(event)
        try:
            project.build(specs)
        except BuilderError as error:
            failure = error
    tester = project.tester()
    results = {label: tester.results[label] for label in _labels(specs) if label in tester.results}
    unbuilt = (
        {
            spec.label: "it was not built"
            for spec in specs.values()
            if spec.tests and spec.label not in results
        }
        if failure
        else {}
    )
    if arguments.junit:
        from builder.testing.junit import junit
        from builder.transport.target import writing

        with _naming(arguments.junit), writing(arguments.junit, sync=False) as file:
            file.write(junit(results, unbuilt).encode())
    if arguments.json:
        document = _document(results, unbuilt)
        if failure:
            from builder.ui.errors import error_document

            document["error"] = error_document(failure)
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(results, unbuilt)
    sys.stdout.flush()
    if failure:
        failure.output_shown = False
        screen.show_error(failure, arguments.progress)
        return failure.exit_code
    if arguments.names_held and not any(results.values()):
        raise UsageError(f"-k {arguments.names_held[0]!r}: no test has that in its name")
    return 0


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path!r} cannot be written: {error.strerror}") from error


def _unlisted(event: Event, progress: str) -> Event:
    """The lines of tests go to stdout; whoever follows events wants them as well."""
    known = isinstance(event, TestDone) and progress != "json"
    return event._replace(listed=False) if known else event  # type: ignore[call-arg]


def _labels(specs: Mapping[str, ImageSpec]) -> list[str]:
    return [spec.label for spec in specs.values()]


def _show(results: Mapping[str, Sequence[Result]], unbuilt: Mapping[str, str]) -> None:
    from builder.ui.human import count, seconds
    from builder.ui.plain import TEST_COLORS
    from builder.ui.text import BOLD, RED, harmless, paint

    color, out = screen.color(sys.stdout), []
    for image, found in results.items():
        for each in found:
            state = paint(_WORDS[each.status], TEST_COLORS[each.status], color)
            took = f"  {seconds(each.seconds)}" if each.status in ("passed", "failed") else ""
            why = f"  {harmless(each.why)}" if each.why else ""
            name = paint(harmless(image), BOLD, color)
            out.append(f"{name}  {harmless(each.test.name)}  {state}{took}{why}")
    for image, why in unbuilt.items():
        name = paint(harmless(image), BOLD, color)
        out.append(f"{name}  {paint(why, RED, color)}")
    every = [each.status for found in results.values() for each in found]
    parts = [f"{every.count('passed') + every.count('cached')} passed"]
    parts += [f"{every.count(word)} {word}" for word in ("failed", "skipped") if word in every]
    if unbuilt:
        parts.append(f"{count(len(unbuilt), 'image')} not built")
    out.append(
        f"{count(len(every), 'test')}: {', '.join(parts)}" if every or unbuilt else "no tests"
    )
    sys.stdout.write("\n".join(out) + "\n")


def _document(
    results: Mapping[str, Sequence[Result]], unbuilt: Mapping[str, str]
) -> dict[str, Any]:
    tests: list[dict[str, Any]] = []
    for image, found in results.items():
        for each in found:
            entry: dict[str, Any] = {
                "image": image,
                "name": each.test.name,
                "place": each.test.place._asdict(),
                "status": each.status,
                "seconds": round(each.seconds, 3),
            }
            if each.why:
                entry["why"] = each.why
            if each.output:
                entry["output"] = list(each.output)
            tests.append(entry)
    return {"tests": tests, "not_built": list(unbuilt)}
