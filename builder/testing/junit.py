"""JUnit's XML, as CI systems read it: a suite for each image, a case for each test.

Ours is the form that Jenkins' xunit plugin publishes a schema of (testsuites, testsuite, testcase,
failure, error, skipped, system-out), which GitLab, Azure and others read a part of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import quoteattr

from builder.testing.tester import Result

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: Mapping[str, Sequence[Result]], errors: Mapping[str, str]) -> str:
    """The document. `results` by image; `errors` say why images were not built, by image."""
    suites = [_suite(image, found) for image, found in results.items()]
    suites += [_unbuilt(image, why) for image, why in errors.items() if image not in results]
    every = [each for found in results.values() for each in found]
    head = _counts(every, len(errors.keys() - results.keys()))
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites {head}>", *suites]
    return "\n".join([*lines, "</testsuites>", ""])


def _counts(results: Sequence[Result], errors: int = 0) -> str:
    counts = {
        "tests": len(results) + errors,
        "failures": sum(each.status == "failed" for each in results),
        "errors": errors,
        "skipped": sum(each.status == "skipped" for each in results),
    }
    seconds = sum(each.seconds for each in results)
    said = " ".join(f'{name}="{count}"' for name, count in counts.items())
    return f'{said} time="{seconds:.3f}"'


def _suite(image: str, results: Sequence[Result]) -> str:
    lines = [f"  <testsuite name={_attribute(image)} {_counts(results)}>"]
    for each in results:
        place = each.test.place
        head = (
            f"    <testcase name={_attribute(each.test.name)} classname={_attribute(image)}"
            f' file={_attribute(place.file)} line="{place.line}" time="{each.seconds:.3f}"'
        )
        if each.status == "failed":
            said = "\n".join((f"{place}: {each.why}", *each.output))
            lines += [
                f"{head}>",
                f"      <failure message={_attribute(each.why)}>{_text(said)}</failure>",
                "    </testcase>",
            ]
        elif each.status == "skipped":
            lines += [f"{head}>", f"      <skipped message={_attribute(each.why)}/>"]
            lines.append("    </testcase>")
        else:
            lines.append(f"{head}/>")
    return "\n".join([*lines, "  </testsuite>"])


def _unbuilt(image: str, why: str) -> str:
    name = _attribute(image)
    return (
        f"  <testsuite name={name} {_counts((), 1)}>\n"
        f'    <testcase name="build" classname={name} time="0.000">\n'
        f"      <error message={_attribute(why)}>{_text(why)}</error>\n"
        "    </testcase>\n"
        "  </testsuite>"
    )


def _clean(text: str) -> str:
    """What XML has no character for is written as Python escapes it."""
    return _NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text)


def _attribute(text: str) -> str:
    return quoteattr(_clean(text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _text(text: str) -> str:
    return (
        _clean(text)
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("\r", "&#13;")
    )
