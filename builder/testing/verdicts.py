"""Verdicts: which tests an image has passed, kept in the store by its content and the test's.

An image is its config document, which names its layers. What failed is not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci.digest import hex_of
from builder.oci.image import Image, encode

if TYPE_CHECKING:
    from builder.spec.tests import Test
    from builder.store.store import Store

TESTS_VERSION = 1
"""Raised when the same test would be judged otherwise."""


def verdict_name(image: Image, test: Test) -> str:
    """What a verdict is kept under: neither a test's name nor its place matter."""
    parts = [TESTS_VERSION, hex_of(image.config_bytes()), type(test).__name__, *test[2:]]
    return f"test-{hex_of(encode(parts))}"


def has_passed(store: Store, image: Image, test: Test) -> bool:
    return store.load("memos", verdict_name(image, test)) is not None


def all_passed(store: Store, image: Image, tests: tuple[Test, ...]) -> bool:
    return all(has_passed(store, image, test) for test in tests)


def keep_verdict(store: Store, image: Image, test: Test) -> None:
    store.remember("memos", verdict_name(image, test), b"passed")
