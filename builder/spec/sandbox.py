"""The Jinja environment of specs: metered, so that no template can take more than its share.

Every operation pays for itself and for what it reads and makes, in units of about a microsecond
or 16 characters; loops pay for what they walk. Nothing that a template makes can therefore outgrow
what it may still spend, no single operation is large, and the same template ends at the same
place on every machine. Operations whose result can be much larger than their operands are sized up
before they run. Time is only a second border.

What is left out of Jinja: includes, inheritance and blocks (a template reads no other file),
autoescape, `random` and `lipsum` (a template gives the same text each time), and the filters that
are about HTML. Added: `quote`, a shell word.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateAssertionError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner

from builder.spec.allowed import (
    FILTERS,
    METHODS,
    OF_TEXT,
    STATEMENTS,
    SYNTAX,
    WALKS,
    escape,
    quote_word,
    tojson,
    worded,
)
from builder.spec.meter import MAX_BITS, MAX_VALUE, Meter, OutOfBounds, QuietNamespace, kind_of

MAX_WIDTH = 10_000  # columns a filter may pad to, rows it may batch
MAX_WALKED = 1 << 20  # characters of a text that is taken apart
TOKEN = 25  # units for reading and compiling one token


class Environment(ImmutableSandboxedEnvironment):
    """Jinja for one spec or one template file; `meter` is what all its renderings may spend."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def __init__(self, meter: Meter, env: Callable[..., Any], newline: str = "\n") -> None:
        super().__init__(
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,
            optimized=False,  # constants are computed when rendering, where they are paid for
            finalize=pass_context(lambda context, value: self.finished(value)),
            newline_sequence=newline,
            cache_size=0,
            extensions=[_Tokens],
        )
        self.meter = meter
        self.constant = True  # whether what was put out last stands so in the template
        self.code_generator_class = _Metered
        self.globals = {
            "range": self.globals["range"],  # the sandbox's, at most 100,000 long
            "dict": dict,
            "env": env,
            "namespace": QuietNamespace,
            "cycler": self.globals["cycler"],
            "joiner": self.globals["joiner"],
        }
        self.functions: tuple[Any, ...] = tuple(self.globals.values())
        own: dict[str, Callable[..., Any]] = {
            "sum": self._sum,
            "join": self._join,
            "string": self.finished,
            "tojson": self._tojson,
            "quote": quote_word,
            "escape": escape,
            "e": escape,
        }
        plain: dict[str, Callable[..., Any]] = {name: JINJA_FILTERS[name] for name in FILTERS}
        self.filters = {name: self._paying(name, f) for name, f in (plain | own).items()}
        tests: dict[str, Any] = dict(self.tests)
        self.tests = {name: self._paying(name, f) for name, f in tests.items()}

    def tree(self, source: str, *, bare: bool = False) -> nodes.Template:
        """A template, read; `bare`: an expression without braces. Raises TemplateSyntaxError."""
        if not bare:
            return self.parse(source.strip())
        parser = Parser(self, source, state="variable")
        inner = parser.parse_expression()
        if not parser.stream.eos:
            text = "one expression is expected, this goes on after it"
            raise TemplateSyntaxError(text, parser.stream.current.lineno)
        made = nodes.Template([nodes.Output([inner], lineno=1)], lineno=1)
        made.set_environment(self)  # what looks through it asks for that, as parse() sets it
        return made

    def as_data(self, value: Any) -> Any:
        """The value of an expression as plain data; it pays for it. Raises TypeError for what is
        none, UndefinedError."""
        if isinstance(value, Undefined):
            value._fail_with_undefined_error()
        if isinstance(value, Iterator):
            value = list(self._counted(value))
        self.meter.weigh(value, plain=True)
        return _data(value)

    # What the generated code calls.

    def paid(self, value: Any) -> Any:
        """`value`, read or made by an operation; an iterator pays as it goes."""
        if isinstance(value, Iterator):
            return self._counted(value)
        self.meter.weigh(value)
        return value

    def looped(self, value: Any) -> Any:
        """`value`, about to be walked by a loop whose rounds pay for what they do."""
        if hasattr(value, "__len__"):
            self.meter.spend(1 + len(value))
            return value
        return self._counted(value)

    def data(self, text: str) -> str:
        """Text outside of tags, each time it is put out."""
        self.meter.spend(1 + (len(text) >> 4))
        self.constant = True
        return text

    def finished(self, value: Any) -> str:
        """The text that an expression puts out."""
        self.meter.weigh(value, plain=True)
        text = self.data(str(worded(value)))
        self.constant = False
        return text

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        weight = self.meter.weigh(left) + self.meter.weigh(right, plain=isinstance(left, str))
        if operator == "*":
            for much, times in ((left, right), (right, left)):
                if isinstance(much, (str, list, tuple)) and isinstance(times, int):
                    self._room(len(much) * max(times, 0), weight * max(times, 0))
        elif operator == "**":
            whole = isinstance(left, int) and isinstance(right, int)
            if whole and abs(right) * (abs(left).bit_length() - 1) > MAX_BITS:
                raise OutOfBounds(f"a number has more than {MAX_BITS} bits")
        elif operator == "%" and isinstance(left, str):
            self._format_room(left, weight)
        if operator not in "+*%":
            for value in (left, right):
                if not isinstance(value, (int, float, Undefined)):
                    raise TypeError(f"{operator!r} is for numbers, not for {kind_of(value)}")
        if operator == "%" and isinstance(left, str):
            right = tuple(map(worded, right)) if isinstance(right, tuple) else worded(right)
        return self.paid(super().call_binop(context, operator, left, right))

    def getitem(self, obj: Any, argument: Any) -> Any:
        self.meter.weigh(argument)
        return super().getitem(obj, argument)

    def getattr(self, obj: Any, attribute: str) -> Any:
        self.meter.spend(1)
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> Any:
        return None  # str.format is not among the methods that may be called

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        meter = __self.meter
        meter.spend(8)  # a macro: its frame and the look-ups of its names
        weight = sum(map(meter.weigh, args))
        for name, value in kwargs.items():
            if name not in ("_loop_vars", "_block_vars"):
                weight += meter.weigh(value)
        if isinstance(__obj, BuiltinMethodType):
            owner, name = __obj.__self__, __obj.__name__
            if name not in METHODS.get(type(owner), ()):
                raise SecurityError(f"method {name!r} of {kind_of(owner)} cannot be called here")
            weight += meter.weigh(owner)
            if isinstance(owner, str):
                __self._text_room(name, owner, args, weight)
        elif not __self._may_call(__obj):
            raise SecurityError(f"{kind_of(__obj)} cannot be called here")
        return __self.paid(super().call(__context, __obj, *args, **kwargs))

    def _may_call(self, what: Any) -> bool:
        if isinstance(what, (Macro, LoopContext, Joiner, Undefined)):
            return True
        if any(what is function for function in self.functions):
            return True
        return isinstance(what, MethodType) and isinstance(what.__self__, (LoopContext, Cycler))

    # What operations may make, checked before they run.

    def _room(self, characters: int, units: int = 0) -> None:
        if characters > MAX_VALUE or max(units, characters >> 4) > self.meter.fuel:
            raise OutOfBounds("the template makes a value that is too large")

    def _format_room(self, template: str, weight: int) -> None:
        """`%` formatting: no more than each conversion at its width, or all operands each time."""
        if _WIDE.search(template):
            raise OutOfBounds(f"a width in a format is not below {MAX_WIDTH}, or is '*'")
        widest = MAX_WIDTH if _WIDTH.search(template) else 0
        self._room(template.count("%") * (widest + 160 * weight + 1400) + len(template))

    def _text_room(self, name: str, text: str, args: tuple[Any, ...], weight: int) -> None:
        if name == "replace" and len(args) >= 2:
            self._replace_room(text, args[0], args[1])
        elif name == "join" and args and hasattr(args[0], "__len__"):
            self.meter.weigh(args[0], plain=True)
            self._room(len(text) * len(args[0]) + 16 * weight)
        elif name in ("center", "ljust", "rjust", "zfill") and args:
            self._width(args[0])
        elif name in ("split", "rsplit", "splitlines"):
            _walkable(text)

    def _replace_room(self, text: Any, old: Any, new: Any) -> None:
        if isinstance(old, str) and isinstance(text, str):
            self._room(len(text) + text.count(old) * len(str(new)))

    def _width(self, width: Any) -> None:
        if isinstance(width, (int, float)) and abs(width) > MAX_WIDTH:
            raise OutOfBounds(f"{width} is too wide, expected at most {MAX_WIDTH}")

    def _counted(self, values: Any) -> Iterator[Any]:
        for value in values:
            self.meter.spend(2)
            yield value

    def _sum(self, values: Any, attribute: Any = None, start: Any = 0) -> Any:
        """Jinja's `sum` of numbers; adding lists up would copy them again and again."""
        total = start
        for value in self.looped(values):
            each = self._attribute(value, attribute)
            if isinstance(each, Undefined):
                each._fail_with_undefined_error()
            if not isinstance(each, (int, float)) or not isinstance(total, (int, float)):
                raise TypeError(f"sum adds numbers, not {kind_of(each)}")
            total = total + each
        return total

    def _join(self, values: Any, d: Any = "", attribute: Any = None) -> str:
        """Jinja's `join`."""
        texts = [self.finished(self._attribute(value, attribute)) for value in values]
        between = self.finished(d)
        self._room(len(texts) * len(between) + sum(map(len, texts)))
        return between.join(texts)

    def _attribute(self, value: Any, attribute: Any) -> Any:
        """What a filter's `attribute=` means: a name, an index, or several with dots between."""
        if attribute is not None:
            for part in str(attribute).split("."):
                value = self.getitem(value, int(part) if part.isdigit() else part)
        return value

    def _tojson(self, value: Any, indent: int | None = None) -> str:
        self.meter.weigh(value, plain=True)
        if isinstance(value, Undefined):
            value._fail_with_undefined_error()
        return tojson(value, indent)

    def _paying(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        skip = 1 if hasattr(function, "jinja_pass_arg") else 0  # the environment or the context
        of_text = name in OF_TEXT
        walks = name in WALKS
        sized = name in ("batch", "slice", "center", "indent", "truncate", "round")

        @functools.wraps(function)
        def paying(*args: Any, **kwargs: Any) -> Any:
            own = args[skip:]
            if of_text and own:
                args = (*args[:skip], worded(own[0]), *map(worded, own[1:]))
                self.meter.weigh(own[0], plain=True)
            elif walks and own and isinstance(own[0], str):
                _walkable(own[0])
            weight = (
                2 + sum(map(self.meter.weigh, own)) + sum(map(self.meter.weigh, kwargs.values()))
            )
            if sized:
                for value in (*own[1:], *kwargs.values()):
                    self._width(value)
                if name == "indent":
                    widths = [v for v in (*own[1:], *kwargs.values()) if not isinstance(v, bool)]
                    width = max((len(v) if isinstance(v, str) else v for v in widths), default=4)
                    self._room(str(own[0]).count("\n") * width + 16 * weight)
            elif name == "replace" and len(own) >= 3:
                self._replace_room(str(own[0]), *map(self.finished, own[1:3]))
            elif name == "format":
                for value in (*own[1:], *kwargs.values()):
                    self.meter.weigh(value, plain=True)
                self._format_room(str(own[0]), weight)
            return self.paid(function(*args, **kwargs))

        return paying


class _Tokens(Extension):
    """Makes each token pay while a template is read."""

    environment: Environment

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for token in stream:
            self.environment.meter.spend(TOKEN)
            yield token


class _Metered(CodeGenerator):
    """Generates calls of Environment.paid and its kin around what Jinja leaves uncounted."""

    def _around(self, name: str, visit: Callable[..., None], node: Any, frame: Frame) -> None:
        self.write(f"environment.{name}(")
        visit(node, frame)
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._around("paid", super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._around("paid", super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._around("paid", super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.paid(''.join((")
        for each in node.nodes:
            self._around("finished", self.visit, each, frame)
            self.write(", ")
        self.write(")))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        self.write("(")
        self._around("paid", self.visit, node.expr, frame)
        for operand in node.ops:
            self.visit(operand, frame)
        self.write(")")

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:
        self.write(f" {_OPERATORS[node.op]} ")
        self._around("paid", self.visit, node.expr, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._around("paid", super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:
        if isinstance(node.node, nodes.EnvironmentAttribute):  # put there by `compiled`
            self._around(node.node.name, self.visit, node.args[0], frame)
        else:
            super().visit_Call(node, frame, forward_caller=forward_caller)

    def _output_const_repr(self, group: Any) -> str:
        return f"environment.data({super()._output_const_repr(group)})"


_WIDTH = re.compile(r"[%).][-+ #0]*[1-9]")
_WIDE = re.compile(
    r"[%).][-+ #0]*[1-9][0-9]{4,}(?:\.[0-9]*)?[hlL]*[a-zA-Z%]|%[-+ #0-9]*(?:\.[0-9]*)?\*"
)

_OPERATORS = {
    "eq": "==",
    "ne": "!=",
    "gt": ">",
    "gteq": ">=",
    "lt": "<",
    "lteq": "<=",
    "in": "in",
    "notin": "not in",
}


RESULT = "result"


def compiled(environment: Environment, source: str, name: str) -> Any:
    """The jinja2.Template of `source`. Raises TemplateSyntaxError."""
    return _compiled(environment, environment.parse(source, name), name)


def expression(environment: Environment, source: str, name: str, *, bare: bool) -> Any:
    """The jinja2.Template that gives RESULT the value of the one expression that `source` is,
    `bare` without braces; None if it is anything else. Raises TemplateSyntaxError."""
    tree = environment.tree(source, bare=bare)
    outputs = tree.body[0].nodes if len(tree.body) == 1 and hasattr(tree.body[0], "nodes") else []
    if len(outputs) != 1 or isinstance(outputs[0], nodes.TemplateData):
        return None
    assign = nodes.Assign(nodes.Name(RESULT, "store", lineno=1), outputs[0], lineno=1)
    made = nodes.Template([assign], lineno=1)
    made.set_environment(environment)
    return _compiled(environment, made, name)


def _compiled(environment: Environment, tree: nodes.Template, name: str) -> Any:
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, SYNTAX):
            what = STATEMENTS.get(type(node), type(node).__name__.lower())
            raise TemplateAssertionError(f"{what!r} is not available here", node.lineno or 1)
    for loop in tree.find_all(nodes.For):
        watch = nodes.EnvironmentAttribute("looped", lineno=loop.lineno)
        loop.iter = nodes.Call(watch, [loop.iter], [], None, None, lineno=loop.lineno)
    code = environment.compile(tree, name, name)
    return environment.template_class.from_code(environment, code, environment.globals)


def _data(value: Any) -> Any:
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("a mapping has a key that is not text")
        return {str(name): _data(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, range, type({}.keys()), type({}.values()))):
        return [_data(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{value} is no number that can be written")
    if value is None or type(value) in (str, bool, int, float):
        return value
    raise TypeError(f"{kind_of(value)} is no value of a variable")


def _walkable(text: str) -> None:
    """Each piece would be a value of its own, 60 bytes for a character."""
    if len(text) > MAX_WALKED:
        raise OutOfBounds(f"a text of more than {MAX_WALKED} characters is taken apart")
