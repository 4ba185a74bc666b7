"""The pytest plugin, as every pytest run loads it: nothing but an option. Whoever gives that gets
the rest, of pytest_items."""

from __future__ import annotations

TYPE_CHECKING = False  # as of typing
if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("builder").addoption(
        "--builder-specs",
        metavar="DIR",
        help="run the tests of these specs as well; fixtures: image, rootfs, container",
    )


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption("builder_specs")
    if folder is not None:
        from builder.cli.pytest_items import begin

        begin(config, folder)
