"""Jinja in specs: scalars after parsing, and template files. See `sandbox` for what it may do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from builder.errors import BuilderError, Place, SpecError
from builder.spec.model import FromEnv, holds_env
from builder.spec.source import Fault, Source, did_you_mean

MAX_SCALAR = 1 << 20  # characters that one scalar may become
MAX_FILE = 64 << 20  # bytes that a template file may become
MAX_SCALAR_SOURCE = 1 << 18  # characters of a scalar with tags in it
MAX_FILE_SOURCE = 4 << 20  # bytes of a template file
SPEC_FUEL = 4_000_000  # see sandbox.Meter; for all scalars of a spec together
FILE_FUEL = 8_000_000
SECONDS = 5.0  # of CPU

_RESERVED = (
    "spec env range dict namespace cycler joiner loop self caller varargs kwargs "
    "true false none True False None and or not in is if else"
)
RESERVED = frozenset(_RESERVED.split())
"""Names that a variable cannot have."""

_RAW = "text that is no template goes between {% raw %} and {% endraw %}"
_TEMPLATE = re.compile(r"\{[{%#]")
_NAME = re.compile(r"'([^']*)' is undefined|(?:attribute|variable|named|method|tag) '([^']*)'")


class TemplateFault(Exception):
    """A template that does not render: `line` counts from 1 within it, `word` is a name on that
    line which the message is about, or empty."""

    def __init__(self, message: str, line: int, word: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.word = word
        self.hint = hint


class NeedsBase(Exception):
    """A template asks for what is not known: the base's config, yet, or a variable's value whose
    fault was noted."""


class TooLong(TemplateFault):
    """The text as a whole becomes too long, whatever line does it."""


def is_template(text: str) -> bool:
    return _TEMPLATE.search(text) is not None


class Renderer:
    """Renders texts with one set of variables; all of them share one meter.

    `asked` takes what `env('NAME')` looked up in `environ`: None where it was not set.
    """

    def __init__(
        self,
        variables: Mapping[str, Any],
        environ: Mapping[str, str],
        asked: dict[str, str | None] | None = None,
        *,
        fuel: int = SPEC_FUEL,
        longest: int = MAX_SCALAR_SOURCE,
        newline: str = "\n",
        hidden: bool = False,
    ) -> None:
        """`hidden`: env() gives what may be shown of a value, for messages."""
        self.variables: dict[str, Any] = {}
        self._plain: dict[str, Any] = {}  # the variables as templates read them
        self._from_env: set[str] = set()  # variables that env() had a part in
        self.unknown: set[str] = set()  # variables whose value was faulty or is missing
        self.know(variables)
        self.asked: dict[str, str | None] = {} if asked is None else asked
        self._environ = environ
        self._fuel = fuel
        self._longest = longest
        self._newline = newline
        self.hidden = hidden
        self.given = 0  # how often env() gave a value
        self._environment: Any = None
        self._seconds = SECONDS
        self._compiled: dict[str, Any] = {}
        self._expressions: dict[tuple[str, bool], Any] = {}
        self._named: dict[tuple[str, bool], set[str]] = {}
        self._names: dict[str, None] = {}  # that env() gave a value for in this rendering
        self.base: Mapping[str, Any] | None = None  # its env, user, working_dir, labels
        self.blind = False  # no template is rendered: what is read is only looked at
        self.may_ask = False  # a step's or config's text is rendered: it may name the base

    def know(self, variables: Mapping[str, Any]) -> None:
        """Render with these variables from now on; env() may have had a part in their texts."""
        self.variables = dict(variables)
        self._from_env = {name for name, value in variables.items() if _has_env(value)}
        self._plain = {name: plain(value) for name, value in variables.items()}

    def learn(self, name: str, value: Any) -> None:
        """Render with one more variable from now on."""
        self.variables[name], self._plain[name] = value, plain(value)
        if _has_env(value):
            self._from_env.add(name)

    @contextmanager
    def knowing(self, more: Mapping[str, Any]) -> Iterator[None]:
        """Render with further variables within."""
        before = self.variables, self._plain, self._from_env, self.unknown
        self.variables, self._plain = dict(self.variables), dict(self._plain)
        self._from_env, self.unknown = self._from_env - more.keys(), self.unknown - more.keys()
        for name, value in more.items():  # what stays is not looked at in each round of a loop
            self.learn(name, value)
        try:
            yield
        finally:
            self.variables, self._plain, self._from_env, self.unknown = before

    def refill(self, fuel: int, seconds: float) -> None:
        """Spend from now on of a new meter."""
        self._fuel, self._seconds = fuel, seconds
        if self._environment is not None:
            self._environment.meter = _meter(fuel, seconds)

    def names_in(self, text: str, *, bare: bool = False) -> set[str]:
        """The names that a template asks for from outside. Raises TemplateFault."""
        found = self._named.get((text, bare))
        if found is None:
            try:
                from jinja2.meta import find_undeclared_variables

                tree = self._get_environment().tree(text, bare=bare)
                found = self._named[text, bare] = find_undeclared_variables(tree)
            except Exception as error:
                raise self._fault(error) from None
        return found

    def render(self, text: str, limit: int = MAX_SCALAR) -> str:
        """`text` with its tags replaced, FromEnv if env() gave a value. Raises TemplateFault,
        NeedsBase."""
        from builder.spec import sandbox

        if len(text) > self._longest:
            raise TemplateFault(f"a template is longer than {self._longest} characters", 1)
        try:
            environment = self._get_environment()
            template = self._compiled.get(text)
            if template is None:
                template = sandbox.compiled(environment, text, _FILE)
                self._compiled[text] = template
            asked = self.given
            variables = self._context(text)
            parts: list[str] = []
            written: list[bool] = []  # whether a part stands so in the template
            size = 0
            for part in template.root_render_func(template.new_context(variables)):
                size += len(part)
                if size > limit:
                    text = f"template error: the text is longer than {limit} characters"
                    raise TooLong(text, 1)
                parts.append(part)
                written.append(environment.constant)
            rendered = "".join(parts)
            if self.given == asked or self.hidden:
                return rendered
            hide = ",".join(self._names)
            return FromEnv(
                rendered,
                "".join(
                    part if stands or not part else _hidden(hide, part)
                    for part, stands in zip(parts, written, strict=True)
                ),
            )
        except (TemplateFault, NeedsBase):
            raise
        except Exception as error:
            raise self._fault(error) from None

    def value(self, text: str, *, bare: bool = False) -> Any:
        """The value of a template that is one expression: a truth value, a number, text, nothing,
        or lists and mappings of them; of any other template the text. `bare`: `text` is an
        expression without braces. Texts are FromEnv if env() gave a value, and numbers then are
        texts, too. Raises TemplateFault, NeedsBase."""
        from builder.spec import sandbox

        if len(text) > self._longest:
            raise TemplateFault(f"a template is longer than {self._longest} characters", 1)
        try:
            environment = self._get_environment()
            kept = (text, bare)
            if kept not in self._expressions:
                made = sandbox.expression(environment, text, _FILE, bare=bare)
                self._expressions[kept] = made
            if (template := self._expressions[kept]) is None:
                return self.render(text)
            asked = self.given
            context = template.new_context(self._context(text, bare=bare))
            for _ in template.root_render_func(context):
                pass
            value = environment.as_data(context.vars[sandbox.RESULT])
        except (TemplateFault, NeedsBase):
            raise
        except Exception as error:
            raise self._fault(error, bare=bare) from None
        if self.given == asked or self.hidden:
            return value
        return _marked(value, ",".join(self._names))

    def _get_environment(self) -> Any:
        if self._environment is None:
            from builder.spec import sandbox

            own = _meter(self._fuel, self._seconds)
            self._environment = sandbox.Environment(own, self._env, self._newline)
        return self._environment

    def _context(self, text: str, *, bare: bool = False) -> dict[str, Any]:
        """What a template may name. Counts as given what env() had a part in. Raises NeedsBase."""
        self._names = {}
        if self.blind:
            raise NeedsBase
        special = self._from_env | self.unknown
        if self.may_ask and "base" not in self.variables:
            special = special | {"base"}
        if not any(name in text for name in special):
            return self._plain
        named = special & self.names_in(text, bare=bare)
        if named & self.unknown or ("base" in named - self._from_env and self.base is None):
            raise NeedsBase
        context = dict(self._plain)
        for name in sorted(named & self._from_env):
            self.given, self._names[name] = self.given + 1, None
            if self.hidden:
                context[name] = plain(self.variables[name], hidden=True)
        if "base" in named - self._from_env and self.base is not None:
            context["base"] = plain(self.base, hidden=self.hidden)
            if holds_env(self.base):
                self.given, self._names["base"] = self.given + 1, None
        return context

    def _env(self, name: str, *default: Any) -> Any:
        """`env('NAME')`, `env('NAME', 'default')`."""
        from jinja2 import UndefinedError

        if not isinstance(name, str) or len(default) > 1:
            raise TypeError("env takes a name and at most one default")
        value = self.asked[name] = self._environ.get(name)
        if value is not None:
            self.given += 1
            self._names[name] = None
            return _hidden(name, value) if self.hidden else value
        if default:
            return default[0]
        raise UndefinedError(f"environment variable {name!r} is not set")

    def without_values(self, text: str, limit: int, fault: TemplateFault) -> TemplateFault:
        """The fault in words that hold no value that env() gave."""
        if not self.given:
            return fault
        again = Renderer(
            self.variables,
            self._environ,
            fuel=self._fuel,
            longest=self._longest,
            newline=self._newline,
            hidden=True,
        )
        try:
            again.render(text, limit)
        except TemplateFault as found:
            return found
        return TemplateFault(f"template error: {OF_ENV}", fault.line)

    def _fault(self, error: Exception, *, bare: bool = False) -> TemplateFault:
        from jinja2 import TemplateSyntaxError, UndefinedError

        line = 1
        if isinstance(error, TemplateSyntaxError):
            line = error.lineno
        else:
            walk = error.__traceback__
            while walk is not None:
                ran = walk.tb_frame.f_globals.get("__jinja_template__")
                if ran is not None:
                    line = ran.get_corresponding_lineno(walk.tb_lineno)
                walk = walk.tb_next
        text = str(error.message if isinstance(error, TemplateSyntaxError) else error)
        text = " ".join(text.split()).replace(f" in {_FILE!r}", "")[:300]
        hint = None
        if isinstance(error, TemplateSyntaxError):
            hint = "`==` compares, `and`, `or` and `not` join" if bare else _RAW
        if isinstance(error, (RecursionError, MemoryError)):
            text = "the template is nested too deep"
        elif "integer string conversion" in text:
            text = "a number has too many digits"
        elif isinstance(error, SyntaxError):
            text = "the template is too complex"
        found = _NAME.search(text)
        word = (found[1] or found[2]) if found else ""
        if isinstance(error, UndefinedError):
            if text.endswith(" is undefined"):
                known = sorted({*self.variables, "env", "range", "namespace", "dict"})
                text += f", expected one of the variables{did_you_mean(word, known)}"
                default = "name | default('x')" if bare else "{{ name | default('x') }}"
                hint = f"declare it under 'vars', or give a default: {default}"
            elif text.startswith("environment variable"):
                hint = f"set it, or give a default: env({word!r}, 'x')"
        elif not text:
            text = type(error).__name__
        return TemplateFault(f"template error: {text}", line, word, hint)


_FILE = "<template>"
OF_ENV = "what env() gave is not what is expected here"


def plain(value: Any, *, hidden: bool = False) -> Any:
    """Data as templates read it, with no FromEnv in it; `hidden`: what may be shown of it."""
    if isinstance(value, FromEnv):
        return value.shown if hidden else str(value)
    if isinstance(value, list):
        return [plain(each, hidden=hidden) for each in value]
    if isinstance(value, Mapping):
        return {name: plain(each, hidden=hidden) for name, each in value.items()}
    return value


def _has_env(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        return any(map(_has_env, value if isinstance(value, list) else value.values()))
    return isinstance(value, FromEnv)


def _marked(value: Any, names: str) -> Any:
    """A value that env() had a part in. One truth value tells next to nothing; a mapping's keys
    may tell all."""
    if isinstance(value, list):
        return [_marked(each, names) for each in value]
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    return FromEnv(text, _hidden(names, text))


def _meter(fuel: int, seconds: float) -> Any:
    from builder.spec.meter import Meter

    return Meter(fuel, seconds)


def _hidden(names: str, value: str) -> str:
    from builder.oci.digest import hex_of

    return f"<env {names} {hex_of(value.encode('utf-8', 'surrogateescape'))[:12]}>"


def render_template(
    path: str | int,
    variables: Mapping[str, Any],
    environ: Mapping[str, str],
    asked: dict[str, str | None] | None = None,
    *,
    name: str | None = None,
) -> bytes:
    """What the template file at the host path `path`, or an open handle, becomes, its last newline
    and its kind of line end kept. `asked` takes what it asked env() for, `name` is how errors call
    the file. Raises SpecError with the place within the file, and BuilderError without one for the
    file as a whole: the caller knows who asked for it; NeedsBase if it names `base` and `variables`
    do not.
    """
    name = str(path) if name is None else name
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_SOURCE + 1)
    except OSError as error:
        raise BuilderError(f"template {name!r} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_SOURCE:
        raise BuilderError(
            f"template {name!r} is larger than {MAX_FILE_SOURCE} bytes", "copy what is not rendered"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        raise SpecError(
            f"byte 0x{data[error.start]:02x} is not UTF-8 text",
            "copy the file instead of rendering it",
        ).at(Place(name, line, column)) from None
    if not is_template(text):
        return data
    newline = "\r\n" if "\r\n" in text else "\n"
    renderer = Renderer(
        variables, environ, asked, fuel=FILE_FUEL, longest=MAX_FILE_SOURCE, newline=newline
    )
    renderer.may_ask = True
    try:
        return renderer.render(text, MAX_FILE).encode("utf-8")
    except TooLong:
        message = f"template {name!r} becomes a text of more than {MAX_FILE} characters"
        raise BuilderError(message) from None
    except TemplateFault as found:
        fault = renderer.without_values(text, MAX_FILE, found)
        lines = re.split("\r\n|\r|\n", text)
        column = column_of(lines[fault.line - 1], fault.word) if fault.line <= len(lines) else 1
        source = Source(name, "\n".join(lines))
        raise source.error(Fault(fault.line, column, fault.message, fault.hint)) from None
    except UnicodeEncodeError:
        raise SpecError(f"{name}: the rendered text is not valid Unicode") from None


def column_of(line: str, word: str, start: int = 0) -> int:
    """The column, from 1, at which `word` stands in a tag of `line`, or its first tag; looked for
    from the index `start` on."""
    tag = max(line.find("{", start), start)
    if word and (found := re.compile(rf"(?<!\w){re.escape(word)}(?!\w)").search(line, tag)):
        return found.start() + 1
    return tag + 1
