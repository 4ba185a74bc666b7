from tests.acceptance.conftest import base
from tests.cli.conftest import project

__all__ = ["base", "project"]
