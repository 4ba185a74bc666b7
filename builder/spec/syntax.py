"""The small syntaxes inside of scalars: modes, owners, paths, durations, ports, signals.

Each `parse_` function takes a text and returns its value or raises Malformed, whose text says what
was expected: the caller puts the value before it.
"""

from __future__ import annotations

import re

from builder.spec.model import MAX_PATH
from builder.spec.source import written

MAX_ID = 4294967294
MAX_NAME = 255  # bytes of a path's component


class Malformed(Exception):
    """`what` follows the quoted value: "is not a duration, expected ..."."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


OCTAL = "^0?[0-7]{3,4}$"
SYMBOLIC = "^[ugoa]*([-+=]([rwxXst]+|[ugo])?)+(,[ugoa]*([-+=]([rwxXst]+|[ugo])?)+)*$"
OWNER = "^[A-Za-z0-9_.][A-Za-z0-9_.@$-]*(:[A-Za-z0-9_.][A-Za-z0-9_.@$-]*)?$"
DURATION = "^(0|([0-9]+(\\.[0-9]+)?(h|m|s|ms|us|µs|ns))+)$"
PORT = "^[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?$"
NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""Of a secret, a cache, an agent."""
IMAGE_NAME = "^[a-z0-9]+([._-][a-z0-9]+)*$"
SUITE = "^[a-z0-9][a-z0-9.-]*$"
PACKAGE = "^[a-z0-9][a-z0-9+.-]*(:[a-z0-9]+)?(=[A-Za-z0-9.+~:-]+)?$"
MIRROR = "^((https?|file|copy):/[!-~]+|deb [ -~]+)$"
VARIANTS = (
    *("minbase", "buildd", "essential", "apt", "required", "important", "standard", "extract"),
    "custom",
)
SIGNALS = (
    *("SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE"),
    *("SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT"),
    *("SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU"),
    *("SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS"),
)
SIGNAL = "^(SIG[A-Z0-9]+([-+][0-9]+)?|[0-9]{1,2})$"

_UNITS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "ns": 1,
}
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|git@[^/]+:")
_GLOB = re.compile(r"[*?\[]")


def parse_mode(text: str) -> str:
    """Octal text or chmod's symbolic form, as it is."""
    if re.fullmatch(OCTAL, text) or (len(text) < 200 and re.fullmatch(SYMBOLIC, text)):
        return text
    digits = text[2:].zfill(4)
    if re.fullmatch("0[oO][0-7]+", text) and re.fullmatch(OCTAL, digits):
        raise Malformed("is not a mode, expected octal text", f"write '{digits}'")
    if text.isdigit():
        raise Malformed("is not octal, expected 3 or 4 digits from 0 to 7 such as '0644'")
    raise Malformed("is not a mode, expected octal text such as '0644' or 'u=rwX,go=rX'")


def parse_owner(text: str) -> str:
    """`user[:group]`, names or numbers, as it is."""
    if len(text) > 200 or not re.fullmatch(OWNER, text):
        raise Malformed("is not an owner, expected user[:group], names or numbers")
    for part in text.split(":"):
        if part.isdigit() and int(part) > MAX_ID:
            raise Malformed(f"is not an owner, expected numbers up to {MAX_ID}")
    return text


def parse_duration(text: str) -> int:
    """Go's syntax (`1m30s`, `500ms`) to nanoseconds, at least a millisecond or 0, as the engines
    take it."""
    if len(text) > 60 or not re.fullmatch(DURATION, text):
        hint = f"write {text}s" if re.fullmatch("[0-9]{1,9}", text) else None
        raise Malformed("is not a duration, expected one such as '30s', '1m30s' or '500ms'", hint)
    total = 0
    for number, unit in re.findall(r"([0-9.]+)(ms|us|µs|ns|h|m|s)", text):
        whole, _, part = number.partition(".")
        total += int(whole) * _UNITS[unit] + int(part or 0) * _UNITS[unit] // 10 ** len(part)
    if total and total < 1_000_000:
        raise Malformed("is too short, expected at least '1ms'")
    if total >= 1 << 63:
        raise Malformed("is too long, expected at most 292 years")
    return total


def parse_ports(text: str) -> tuple[int, int, str]:
    """`80`, `80/udp` or a range `8000-8010/tcp`, to the first port, the last and the protocol."""
    if not re.fullmatch(PORT, text):
        raise _no_port(text)
    numbers, slash, protocol = text.partition("/")
    first, _, last = numbers.partition("-")
    start, end = int(first), int(last or first)
    if not (1 <= start <= 65535 and 1 <= end <= 65535):
        raise _no_port(text)
    if start > end:
        ports = f"{end}-{start}{slash}{protocol}"
        raise Malformed("ends before it starts, expected a range of ports", f"write {ports}")
    return start, end, protocol if slash else "tcp"


def _no_port(text: str) -> Malformed:
    published = re.fullmatch(r"[^/]*:([0-9-]+(?:/\w+)?)", text)
    meant = (published[1] if published else text).lower()
    hint = f"write {meant}" if meant != text and re.fullmatch(PORT, meant) else None
    if published:
        return Malformed(
            "publishes a port, which is said where the image is run; expected the image's own", hint
        )
    expected = "expected 1 to 65535 or a range of them, then /tcp, /udp or /sctp if not tcp"
    return Malformed(f"is not a port, {expected}", hint)


def parse_signal(text: str) -> str:
    if text.isascii() and text.isdigit():
        if not (1 <= int(text) <= 64 and len(text) <= 2):
            raise Malformed("is not a signal, expected 1 to 64 or a name such as 'SIGTERM'")
        return text
    realtime = re.fullmatch(r"SIGRT(?:MIN(?:\+([0-9]{1,2}))?|MAX(?:-([0-9]{1,2}))?)", text)
    if text in SIGNALS or (realtime and int(realtime[1] or realtime[2] or 0) <= 30):
        return text
    hint = f"write SIG{text.upper()}" if f"SIG{text.upper()}" in SIGNALS else None
    raise Malformed("is not a signal, expected a name such as 'SIGTERM' or a number", hint)


def parse_name(text: str) -> str:
    """An image's name in this project: one lower-case component of a repository."""
    if len(text) > 128 or not re.fullmatch(IMAGE_NAME, text):
        raise Malformed(
            "is not an image name, expected lower-case letters and digits, with . _ - between them"
        )
    return text


def parse_source(text: str) -> str:
    """A path below the context, or a glob: normalised, relative, without `..`."""
    if URL.match(text):
        raise Malformed(
            "is a URL, expected a path within the context",
            "a step `download` fetches a file, a step `git` what a repository has at a commit",
        )
    parts = _parts(text)
    if ".." in parts:
        raise Malformed("leaves the context, expected a path within it")
    if text.startswith("/"):
        hint = "paths are relative to the context folder"
        if parts:
            hint += f": write {written('/'.join(parts))}"
        raise Malformed("is absolute, expected a path within the context", hint)
    slash = "/" if parts and text.endswith("/") else ""
    return ("/".join(parts) or ".") + slash


def parse_image_source(text: str) -> str:
    """A path in an image that files are copied from, or a glob: normalised, without `..`. A
    relative one begins at the root, as with Docker."""
    parts = _parts(text)
    if ".." in parts:
        raise Malformed("leaves the image through '..', expected a path without it")
    slash = "/" if parts and text.endswith("/") else ""
    return "/" + "/".join(parts) + slash


def parse_target(text: str) -> str:
    """A path in the image, normalised; a slash at its end is kept, as it says that a directory is
    meant. A relative one stays so: `./` is the working directory, whichever that is."""
    parts = _parts(text)
    if ".." in parts:
        raise Malformed("leaves the image through '..', expected a path without it")
    path = ("/" if text.startswith("/") else "") + "/".join(parts) or "."
    if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise Malformed(f"is longer than {MAX_PATH} bytes")
    last = text.rsplit("/", 1)[-1]
    return path + "/" if path != "/" and last in ("", ".") else path


def is_glob(text: str) -> bool:
    return _GLOB.search(text) is not None


def _parts(text: str) -> list[str]:
    if not text:
        raise Malformed("is empty, expected a path")
    if "\0" in text:
        raise Malformed("holds a NUL character")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    for part in parts:
        if len(part.encode("utf-8", "surrogateescape")) > MAX_NAME:
            raise Malformed(f"has a component longer than {MAX_NAME} bytes")
    return parts
