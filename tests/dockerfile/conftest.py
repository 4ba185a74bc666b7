"""All three builders, made once for the cases that are compared."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dockerfile.comparing import Builders


@pytest.fixture(scope="module")
def builders(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Builders:
    return Builders(engine.socket, tmp_path_factory.mktemp("compare"))
