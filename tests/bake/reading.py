"""Bake files of a test, and what `docker buildx bake --print` would print of them."""

from __future__ import annotations

from typing import Any

from builder.bake.evaluate import Evaluator, Meter
from builder.bake.functions import function
from builder.bake.model import Bake, Resolver
from builder.bake.parse import parse_file
from builder.bake.read import read
from builder.bake.text import Text
from builder.bake.values import Val, Wrong, of, plain, said_by, say
from builder.errors import SpecErrors
from builder.spec.source import Problems, Source


def bake_of(*texts: str, names: tuple[str, ...] = ()) -> Bake:
    """Raises SpecErrors."""
    sources = [
        Source(names[number] if names else "docker-bake.hcl", text)
        for number, text in enumerate(texts)
    ]
    with Problems(sources[0]).collected():
        return read(sources)
    raise AssertionError


def printed(bake: Bake) -> dict[str, dict[str, Any]]:
    """The targets with all that they inherit, in plain values."""
    resolver = Resolver(bake)
    return {
        name: {key: plain(said.value) for key, said in resolver.target(name).said.items()}
        for name in bake.targets
    }


def one(text: str) -> dict[str, Any]:
    """Of a file with one target, or the one that is called `t`."""
    found = printed(bake_of(text))
    return found["t"] if "t" in found else next(iter(found.values()))


def wrong(text: str, name: str = "docker-bake.hcl") -> str:
    """The one error of a file, as line:column: message."""
    source = Source(name, text)
    try:
        with Problems(source).collected():
            printed(read([source]))
    except SpecErrors as errors:
        (error,) = errors.errors
        assert error.place
        return f"{error.place.line}:{error.place.column}: {error.what}"
    raise AssertionError("no error")


def value(code: str, variables: dict[str, Any], *, mark: tuple[str, ...] = ()) -> Val:
    """Of an expression; those of `mark` are variables that a template may say. Raises Fault."""
    source = Source("docker-bake.hcl", f"x = {code}\n")
    meter = Meter()

    def variable(name: str) -> Val:
        if name not in variables:
            raise Wrong(f"there is no variable {name!r}")
        found = of(variables[name])
        if name not in mark:
            return found
        return Val(found.data, frozenset((name,)), say(said_by(name)))

    body = parse_file(source)
    evaluator = Evaluator(
        Text(source, source.text), meter, variable, lambda name: function(name, meter)
    )
    return evaluator.value(body.attributes["x"].value, {})
