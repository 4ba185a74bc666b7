"""What templates may use: filters, methods and syntax by name, and the filters that are our own."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes

from builder.spec.meter import OutOfBounds


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


METHODS: dict[type, frozenset[str]] = {
    str: _words(
        "capitalize casefold center count endswith find index isalnum isalpha isascii "
        "isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle "
        "isupper join ljust lower lstrip partition removeprefix removesuffix replace "
        "rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip "
        "swapcase title upper zfill"
    ),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
    int: frozenset(("bit_length",)),
    float: frozenset(("is_integer",)),
}

FILTERS = _words(
    "abs batch capitalize center count d default dictsort filesizeformat first float "
    "format groupby indent int items last length list lower map max min reject "
    "rejectattr replace reverse round select selectattr slice sort title trim "
    "truncate unique upper urlencode wordcount"
)

OF_TEXT = _words(
    "capitalize center e escape format indent lower quote replace title trim truncate "
    "upper urlencode wordcount"
)

WALKS = _words("batch first join last list map max min reject reverse select slice sort unique")

SYNTAX: tuple[type[nodes.Node], ...] = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Macro),
    *(nodes.CallBlock, nodes.FilterBlock, nodes.With, nodes.Assign, nodes.AssignBlock),
    *(nodes.Name, nodes.NSRef, nodes.Const, nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair),
    *(nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call, nodes.Getitem),
    *(nodes.Getattr, nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand),
    *(nodes.BinExpr, nodes.UnaryExpr),
)


STATEMENTS: dict[type[nodes.Node], str] = {
    nodes.FromImport: "from",
    nodes.Scope: "autoescape",
}


class Truth(int):
    """A truth value where text is made of it: `true`, not Python's `True`; in %d still a number."""

    def __str__(self) -> str:
        return "true" if self else "false"


def worded(value: Any) -> Any:
    """`value`, whose text is the one that YAML and JSON have for it."""
    return Truth(value) if isinstance(value, bool) else value


def tojson(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys; unlike Jinja's not dressed for HTML."""
    import json

    if indent is not None and not 0 <= indent <= 8:
        raise OutOfBounds(f"{indent} is too wide, expected at most 8")
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=indent)


def quote_word(value: Any) -> str:
    """One word for a POSIX shell, whatever it holds."""
    import shlex

    return shlex.quote(str(value))


def escape(value: Any) -> str:
    """Text for HTML, as text (not marked: nothing else is escaped for it)."""
    import html

    return html.escape(str(value))
