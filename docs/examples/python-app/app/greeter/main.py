import sys

from phrases import greeting


def main() -> None:
    print(greeting(" ".join(sys.argv[1:])))  # noqa: T201
