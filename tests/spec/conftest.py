"""A spec as text in, its value or its error lines out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from builder.api import load_spec
from builder.errors import SpecErrors
from builder.spec.model import ImageSpec


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ImageSpec]:
    """Load a spec text from `s.yaml`, named so in errors."""
    monkeypatch.chdir(tmp_path)

    def load(text: str | bytes, environ: Mapping[str, str] | None = None, **more: Any) -> ImageSpec:
        data = text.encode() if isinstance(text, str) else text
        Path("s.yaml").write_bytes(data)
        return load_spec("s.yaml", environ=environ or {}, **more)

    return load


@pytest.fixture
def wrong(read: Callable[..., ImageSpec]) -> Callable[..., list[str]]:
    """The error lines of a spec text."""

    def errors(text: str | bytes, **more: Any) -> list[str]:
        with pytest.raises(SpecErrors) as caught:
            read(text, **more)
        assert all("\n" not in error.message for error in caught.value.errors)
        return [error.message for error in caught.value.errors]

    return errors
