"""What is left out of a source: `.dockerignore` by moby's rules, `exclude` by git's."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from posixpath import normpath
from typing import NamedTuple

from builder.errors import BuilderError, Place, SpecError
from builder.plan.globs import (
    ANY_FOLDERS,
    BEGIN,
    CLASSES,
    LOOP,
    ONE,
    Globs,
    Item,
    State,
    Test,
    anything,
    between,
    literal,
    not_slash,
    one_of,
)

MAGIC = re.compile(r"[*?\[]")
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
)
_SPACE += "\u2028\u2029\u202f\u205f\u3000"  # Go's: str.strip() takes four control characters more

KEPT, FOLDED, LEFT_OUT = range(3)
"""Kept; left out, but something below may be kept; left out with all below."""


# -- .dockerignore ---------------------------------------------------------------------------------


class Ignore:
    """The patterns of a `.dockerignore`. The last that matches a path or a folder above it counts.

    As moby does it for trees, from the top down: a pattern that would change nothing at a folder is
    not asked there, and so says nothing of what lies below; and a folder that is left out is looked
    into only where a line with `!` begins with its path."""

    def __init__(self, text: str, name: str = ".dockerignore") -> None:
        """Raises SpecError with the line of a bad pattern."""
        self.keeps: list[bool] = []  # of each pattern: whether it begins with `!`
        self._kept: list[str] = []  # those patterns, each with a slash at the end
        patterns = []
        for number, line in enumerate(text.split("\n"), 1):
            pattern = _pattern(line)
            if not pattern:
                continue
            keeps = pattern.startswith("!")
            try:
                patterns.append(_moby(pattern[keeps:]))
            except ValueError as error:
                line = line.strip(_SPACE)
                raise SpecError(f"{line!r} is no pattern: {error}").at(
                    Place(name, number, 1)
                ) from None
            self.keeps.append(keeps)
            if keeps:
                self._kept.append(pattern[1:] + "/")
        self.start = Globs(patterns).start
        self._decided: dict[tuple[int, int], tuple[bool, int]] = {}

    def decide(self, above: int, here: int) -> tuple[bool, int]:
        """Whether a path is left out, and the patterns that are known to match it or a folder above
        it. `above` is that of its folder, `here` those that match the path itself."""
        known = self._decided.get((above, here))
        if known is None:
            out, matching = False, 0
            for number, keeps in enumerate(self.keeps):
                bit = 1 << number
                if above & bit or (keeps == out and here & bit):
                    matching |= bit
                    out = not keeps
            known = self._decided[above, here] = out, matching
        return known

    def may_keep(self, folder: str) -> bool:
        """Whether something may be kept below a folder that is left out; its path ends in a
        slash."""
        return any(pattern.startswith(folder) for pattern in self._kept)


def _pattern(line: str) -> str:
    """What moby makes of a line before it looks at it as a pattern; "" of a comment."""
    if line.startswith("#") or not (line := line.strip(_SPACE)):
        return ""
    keeps = line.startswith("!")
    line = line[keeps:].strip(_SPACE)
    if line:
        line = _clean(line)
        line = line[1:] if len(line) > 1 and line.startswith("/") else line
    return _clean(("!" * keeps + line).strip(_SPACE))


def _clean(path: str) -> str:
    """As Go's filepath.Clean."""
    return re.sub("^//", "/", normpath(path))


def _moby(pattern: str) -> list[Item]:
    """The items of a cleaned pattern. moby turns it into a regular expression of Go's, sign by sign
    and so within brackets too, or compares text when all stars are at one end."""
    if not pattern:
        raise ValueError("nothing is behind the '!'")
    _check(pattern)
    said, kind, at = "", "exact", 0
    while at < len(pattern):
        first, char = not at, pattern[at]
        at += 1
        if char == "*" and pattern[at : at + 1] == "*":
            at += 2 if pattern[at + 1 : at + 2] == "/" else 1
            if at < len(pattern):
                said, kind = said + "(.*/)?", "regexp"
            elif kind == "exact":
                kind = "prefix"
            else:
                said, kind = said + ".*", "regexp"
            kind = "suffix" if first else kind
        elif char in "*?":
            said, kind = said + ("[^/]*" if char == "*" else "[^/]"), "regexp"
        elif char == "\\":
            said, kind, at = said + char + pattern[at], "regexp", at + 1
        else:
            said += "\\" + char if char in ".+()|{}$" else char
            kind = "regexp" if char in "[]" else kind
    if kind == "exact":
        return literal(pattern)
    if kind == "prefix":
        return [*literal(pattern[:-2]), (LOOP, anything)]
    if kind == "suffix" and not pattern.startswith("**/"):
        return [(LOOP, anything), *literal(pattern[2:])]
    if kind == "suffix":
        return [*ANY_FOLDERS, *literal(pattern[3:])]
    try:
        return _go(said)
    except IndexError:
        raise ValueError("'[' without ']'") from None


def _check(pattern: str) -> None:
    """Raises ValueError where moby does before it makes an expression of a pattern: it matches "."
    with it, and looks no further than that goes."""
    end = r"(?>\\.|[^\\\]-])"  # of a range
    chunk = rf"(?s)\**+((?>\\.|\[\^?+(?:{end}(?>-{end})?+)++\]|[^\\\[*])*+)(?=\*|$)"
    at = 0
    while at < len(pattern):
        found = re.compile(chunk).match(pattern, at)
        if not found or re.search(r"(?<!\\)(?>\\\\)*\\$", pattern):
            raise ValueError("expected ranges in '[...]', and a character behind each '\\'")
        if not re.fullmatch(r"\.|\?|\\\.|\[.*\]", found[1]):
            return
        at = found.end()


def _go(text: str) -> list[Item]:
    """The items of such a regular expression. Raises IndexError where a class does not end."""
    items: list[Item] = []
    at = 0
    while at < len(text):
        if text.startswith("(.*/)?", at):
            items += (ANY_FOLDERS[0], (LOOP, "\n".__ne__), ANY_FOLDERS[2])
            at += 6
            continue
        if text[at] == "^":
            items.append((BEGIN, None))
            at += 1
            continue
        if text[at] == "[":
            test, at = _go_class(text, at + 1)
        elif text[at] == ".":
            test, at = "\n".__ne__, at + 1
        else:
            _, test, at = _go_char(text, at)
        loop = text[at : at + 1] == "*"
        items.append((LOOP if loop else ONE, test))
        at += loop
    return items


def _go_class(text: str, at: int) -> tuple[Test, int]:
    """The class whose first sign stands at `at`; and where it ends."""
    negated = text[at] == "^"
    at = start = at + negated
    tests: list[Test] = []
    while text[at] != "]" or at == start:
        named = re.compile(r"\[:(\^?)(.*?):\]").match(text, at)
        if named:
            if named[2] not in _GO_CLASSES:
                raise ValueError(f"there is no class {named[0]!r}")
            tests.append(one_of([_GO_CLASSES[named[2]].__contains__], negated=bool(named[1])))
            at = named.end()
            continue
        low, test, at = _go_char(text, at)
        if low and text[at] == "-" and text[at + 1] != "]":
            high, _, at = _go_char(text, at + 1)
            if high < low:
                raise ValueError(f"the range {low}-{high} ends before it begins")
            test = between(low, high)
        tests.append(test)
    return one_of(tests, negated=negated), at + 1


def _go_char(text: str, at: int) -> tuple[str, Test, int]:
    """One character ("" if it is a class), its test, and where it ends."""
    char = text[at]
    if char != "\\":
        return char, char.__eq__, at + 1
    char = text[at + 1]
    if char.lower() in _PERL:
        test = _PERL[char.lower()].__contains__
        return "", one_of([test], negated=char.isupper()), at + 2
    if not char.isascii() or char.isalnum():
        if char not in _CONTROLS:
            raise ValueError(f"'\\{char}' means nothing, expected a slash or {char!r} alone")
        char = _CONTROLS[char]
    return char, char.__eq__, at + 2


_GO_CLASSES = {**CLASSES, "ascii": "".join(map(chr, range(128))), "word": CLASSES["alnum"] + "_"}
_PERL = {"d": CLASSES["digit"], "s": "\t\n\f\r ", "w": _GO_CLASSES["word"]}
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


# -- exclude ---------------------------------------------------------------------------------------


class Exclude:
    """Patterns as `.gitignore` has them; characters are bytes, as Latin-1 shows them. The last that
    matches a path counts, and nothing is kept below a folder that is left out."""

    def __init__(self, lines: Sequence[str]) -> None:
        patterns = []
        self.keeps: list[bool] = []  # of each pattern: whether it begins with `!`
        folders = []  # and ends with a slash
        for text in lines:
            for line in text.encode("utf-8", "surrogateescape").decode("latin-1").split("\n"):
                line = _without_end(line.removesuffix("\r"))
                if not line or line.startswith("#"):
                    continue
                keeps = line.startswith("!")
                line = line[keeps:]
                folder = line.endswith("/")
                patterns.append(_git(line.removesuffix("/")))
                self.keeps.append(keeps)
                folders.append(folder)
        self.start = Globs(patterns).start
        self._folder = sum(1 << number for number, each in enumerate(folders) if each)

    def decide(self, here: int, *, is_dir: bool) -> bool:
        """Whether a path is left out that these patterns match."""
        last = (here if is_dir else here & ~self._folder).bit_length()
        return last > 0 and not self.keeps[last - 1]


def _without_end(line: str) -> str:
    """Without the blanks at the end, but for one behind a backslash."""
    return re.sub(r"(?<!\\)((?:\\\\)*) +$", r"\1", line)


def _git(pattern: str) -> list[Item]:
    """The items of one pattern, without a slash at its end."""
    items: list[Item] = []
    if "/" in pattern:
        pattern = pattern.removeprefix("/")
        # what is literal is compared first: stars that follow it are as those at the beginning
        plain = re.match(r"[^*?\[\\]*", pattern)
        assert plain is not None
        items += literal(plain[0])
        pattern = pattern[plain.end() :]
        whole = True
    else:
        items += ANY_FOLDERS
        whole = False
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            end = at + len(pattern) - at - len(pattern[at:].lstrip("*"))
            around = (at == 0 or pattern[at - 1] == "/") and re.match(r"$|\\?/", pattern[end:])
            if whole and end - at > 1 and around:
                if pattern[end : end + 1] == "/":
                    items += ANY_FOLDERS
                    end += 1
                else:
                    items.append((LOOP, anything))
            else:
                items.append((LOOP, not_slash))
            at = end
        elif char == "?":
            items.append((ONE, not_slash))
            at += 1
        elif char == "[":
            found = _git_class(pattern, at + 1)
            if found is None:
                return _NEVER
            items.append((ONE, found[0]))
            at = found[1]
        else:
            at += char == "\\"
            if at == len(pattern):
                return _NEVER
            items.append((ONE, pattern[at].__eq__))
            at += 1
    return items


_NEVER: list[Item] = [(ONE, "".__eq__)]


def _git_class(text: str, at: int) -> tuple[Test, int] | None:
    """The class whose first sign stands at `at`, and where it ends. None: it does not end, and so
    matches nothing."""
    negated = text[at : at + 1] in ("!", "^")
    at = start = at + negated
    tests: list[Test] = ["/".__eq__] if negated else []
    low = ""
    while at < len(text) and (text[at] != "]" or at == start):
        char = text[at]
        named = re.compile(r"\[:([^\]]*):\]").match(text, at)
        if char == "-" and low and text[at + 1 : at + 2] not in ("", "]"):
            at += 2 if text[at + 1] == "\\" else 1
            if at < len(text):
                tests.append(between(low, text[at]))
            low = ""
        elif named:
            if named[1] not in CLASSES:
                return None
            known = " \t\n\r" if named[1] == "space" else CLASSES[named[1]]
            tests.append(known.__contains__)
            low, at = "", named.end() - 1
        else:
            at += char == "\\"
            if at < len(text):
                low = text[at]
                tests.append(low.__eq__)
        at += 1
    test = one_of(tests, negated=negated)
    return ((lambda char: char != "/" and test(char)), at + 1) if at < len(text) else None


# -- both ------------------------------------------------------------------------------------------


class At(NamedTuple):
    """A folder on the way through a source."""

    path: str  # below the context, with a slash at the end; "" is the context itself
    ignore: State
    matching: int  # patterns of `.dockerignore` that match it or a folder above it
    exclude: State


class Rules:
    """What is left out of a source. `ignore` goes by paths below the context, `exclude` by paths
    below the source."""

    def __init__(self, ignore: Ignore, exclude: Exclude) -> None:
        self._ignore, self._exclude = ignore, exclude
        self._ignores, self._excludes = bool(ignore.keeps), bool(exclude.keeps)

    def __bool__(self) -> bool:
        return self._ignores or self._excludes

    def start(self, path: str, below: str, *, is_dir: bool) -> tuple[int, At]:
        """A source, at `path` below the context; `exclude` knows it as `below`."""
        at = At("", self._ignore.start, 0, self._exclude.start)
        verdict = KEPT
        names = [os.fsencode(name) for name in path.split("/") if name not in ("", ".")]
        for number, name in enumerate(names, 1):
            verdict, at = self._ignored(at, name, is_dir or number < len(names))
        names = [os.fsencode(name) for name in below.split("/") if name]
        for number, name in enumerate(names, 1):
            out, at = self._excluded(at, name, is_dir or number < len(names))
            if out:
                return LEFT_OUT, at
        return verdict, at

    def enter(self, at: At, name: bytes, is_dir: bool) -> tuple[int, At]:
        """What is called so in a folder: the verdict; and of a folder, what holds below it."""
        if self._excludes:
            out, at = self._excluded(at, name, is_dir)
            if out:
                return LEFT_OUT, at
        return self._ignored(at, name, is_dir) if self._ignores else (KEPT, at)

    def _excluded(self, at: At, name: bytes, is_dir: bool) -> tuple[bool, At]:
        state = at[3]
        for char in name.decode("latin-1"):
            state = state[char]
        out = bool(state.accepts) and self._exclude.decide(state.accepts, is_dir=is_dir)
        return out, (At(*at[:3], state["/"]) if is_dir else at)

    def _ignored(self, at: At, name: bytes, is_dir: bool) -> tuple[int, At]:
        path, state, matching, exclude = at
        text = os.fsdecode(name)
        for char in text:
            state = state[char]
        out = False
        if matching or state.accepts:
            out, matching = self._ignore.decide(matching, state.accepts)
        if not is_dir:
            return (LEFT_OUT if out else KEPT), at
        at = At(f"{path}{text}/", state["/"], matching, exclude)
        if not out:
            return KEPT, at
        return (FOLDED if self._ignore.may_keep(at.path) else LEFT_OUT), at


class Leaving:
    """`exclude` for paths that come from elsewhere, each behind the folders that it lies in."""

    def __init__(self, exclude: Sequence[str]) -> None:
        self._rules = Rules(Ignore(""), Exclude(exclude))
        self._folders: dict[bytes, At | None] = {}  # None: it is left out

    def leaves_out(self, path: bytes, *, is_dir: bool) -> bool:
        if not self._rules:
            return False
        folder, _, name = path.rpartition(b"/")
        at = self._enter(folder)
        return at is None or self._rules.enter(at, name, is_dir)[0] == LEFT_OUT

    def _enter(self, path: bytes) -> At | None:
        if path not in self._folders:
            if not path:
                self._folders[path] = self._rules.start("", "", is_dir=True)[1]
            else:
                folder, _, name = path.rpartition(b"/")
                above = self._enter(folder)
                verdict, at = self._rules.enter(above, name, True) if above else (LEFT_OUT, None)
                self._folders[path] = None if verdict == LEFT_OUT else at
        return self._folders[path]


# -- globs -----------------------------------------------------------------------------------------


def glob_of(pattern: str) -> Callable[[str], bool]:
    """One path component with `*`, `?`, `[a-z]`, `[^a]`, `[!a]` and backslash escapes."""
    items = _git(pattern)
    if items is _NEVER:
        raise BuilderError(
            f"{pattern!r} is not a glob: '[' without ']', or '\\' without a character"
        )
    globs = Globs([items])

    def matches(name: str) -> bool:
        state = globs.start
        for char in name:
            state = state[char]
        return bool(state.accepts)

    return matches


def tests_of(parts: Sequence[str]) -> list[Test | None]:
    """What the components of a path with globs ask of a name; None for `**` (globs.matches_below).
    Raises BuilderError."""
    return [
        None if part == "**" else glob_of(part) if MAGIC.search(part) else part.__eq__
        for part in parts
    ]
