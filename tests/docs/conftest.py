"""The registry of CI's page."""

from tests.registry.conftest import registry, start_registry

__all__ = ["registry", "start_registry"]
