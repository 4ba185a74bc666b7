"""References are read and written as the Docker client does; where it is installed, it is asked."""

from __future__ import annotations

import subprocess

import pytest

from builder.errors import UsageError
from builder.oci.reference import Reference, parse_reference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

READ = [
    # text, registry, repository, tag, digest, the form people write
    ("nginx", "docker.io", "library/nginx", "latest", None, "nginx:latest"),
    ("nginx:1.25", "docker.io", "library/nginx", "1.25", None, "nginx:1.25"),
    ("team/web", "docker.io", "team/web", "latest", None, "team/web:latest"),
    ("a/b/c:d", "docker.io", "a/b/c", "d", None, "a/b/c:d"),
    ("docker.io/nginx", "docker.io", "library/nginx", "latest", None, "nginx:latest"),
    ("docker.io/library/nginx", "docker.io", "library/nginx", "latest", None, "nginx:latest"),
    ("index.docker.io/nginx:1", "docker.io", "library/nginx", "1", None, "nginx:1"),
    ("index.docker.io/a/b", "docker.io", "a/b", "latest", None, "a/b:latest"),
    ("library/nginx", "docker.io", "library/nginx", "latest", None, "nginx:latest"),
    ("docker.io/library/a/b", "docker.io", "library/a/b", "latest", None, "library/a/b:latest"),
    (
        f"docker.io/library/nginx@{DIGEST}",
        "docker.io",
        "library/nginx",
        None,
        DIGEST,
        f"nginx@{DIGEST}",
    ),
    (f"nginx@{DIGEST}", "docker.io", "library/nginx", None, DIGEST, f"nginx@{DIGEST}"),
    (f"nginx:1@{DIGEST}", "docker.io", "library/nginx", "1", DIGEST, f"nginx:1@{DIGEST}"),
    ("localhost/a", "localhost", "a", "latest", None, "localhost/a:latest"),
    ("localhost:5000/a/b:c", "localhost:5000", "a/b", "c", None, "localhost:5000/a/b:c"),
    ("localhost", "docker.io", "library/localhost", "latest", None, "localhost:latest"),
    ("localhost:5000", "docker.io", "library/localhost", "5000", None, "localhost:5000"),
    ("host:5000/x", "host:5000", "x", "latest", None, "host:5000/x:latest"),
    ("127.0.0.1:5000/x:1", "127.0.0.1:5000", "x", "1", None, "127.0.0.1:5000/x:1"),
    ("[::1]:5000/x", "[::1]:5000", "x", "latest", None, "[::1]:5000/x:latest"),
    ("[fe80::1]/x", "[fe80::1]", "x", "latest", None, "[fe80::1]/x:latest"),
    ("ghcr.io/a/b_c/d__e/f--g", "ghcr.io", "a/b_c/d__e/f--g", "latest", None, None),
    ("ghcr.io/a.b", "ghcr.io", "a.b", "latest", None, None),
    ("xn--n3h.com/a:b", "xn--n3h.com", "a", "b", None, None),
    ("Registry/a", "Registry", "a", "latest", None, "Registry/a:latest"),
    ("REG.example.com:80/a:T.a_g-1", "REG.example.com:80", "a", "T.a_g-1", None, None),
    ("a:_b", "docker.io", "library/a", "_b", None, "a:_b"),
    ("a:" + "t" * 128, "docker.io", "library/a", "t" * 128, None, None),
    ("a.b/" + "c" * 251, "a.b", "c" * 251, "latest", None, None),
    ("abc" + HEX[:60], "docker.io", "library/abc" + HEX[:60], "latest", None, None),
    (HEX + ":1", "docker.io", "library/" + HEX, "1", None, None),
]

REFUSED = [
    # text, what the message says
    ("", "expected [REGISTRY/]REPOSITORY[:TAG][@DIGEST]"),
    (HEX, "64 hex digits"),
    ("Nginx", "is not lower case"),
    ("team/Web", "is not lower case"),
    ("docker.io/library/NGINX:1", "is not lower case"),
    ("a:", "the tag ''"),
    ("a:.b", "the tag '.b'"),
    ("a:-b", "the tag '-b'"),
    ("a:b c", "the tag 'b c'"),
    ("a:" + "t" * 129, "the tag 'ttt"),
    ("a:b:c", "the tag 'b:c'"),
    ("a:b/c", "is not a host[:port]"),
    ("-a", "expected"),
    ("a-", "expected"),
    ("a..b", "expected"),
    ("a___b", "expected"),
    ("a//b", "expected"),
    ("a/", "expected"),
    ("/a", "expected"),
    ("a b", "expected"),
    ("a@", "the digest ''"),
    ("a@sha256:00", "the digest 'sha256:00'"),
    (f"a@sha256:{HEX.upper()}", "the digest"),
    (f"a@md5:{HEX[:32]}", "the digest"),
    (f"a@sha512:{HEX}{HEX}", "the digest"),
    (f"@{DIGEST}", "expected"),
    ("https://docker.io/a", "expected [REGISTRY/]REPOSITORY"),
    ("-host.com/a", "'-host.com' is not a host"),
    ("host.com:port/a", "'host.com:port' is not a host"),
    ("host_x.com/a", "'host_x.com' is not a host"),
    ("h..x/a", "'h..x' is not a host"),
    ("localhost:5000/", "expected"),
    ("a.b/" + "c" * 252, "longer than 255"),
    ("ü", "expected"),
    ("a\n", "expected"),
    ("a:b\n", "the tag"),
    ("١", "expected"),
]


@pytest.mark.parametrize(("text", "registry", "repository", "tag", "digest", "familiar"), READ)
def test_is_read(
    text: str, registry: str, repository: str, tag: str | None, digest: str | None, familiar: str
) -> None:
    reference = parse_reference(text)
    assert tuple(reference) == (registry, repository, tag, digest)
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference
    if familiar is not None:
        assert reference.familiar == familiar


@pytest.mark.parametrize(("text", "says"), REFUSED)
def test_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert says in caught.value.message
    assert "is not an image reference: " in caught.value.message
    assert "\n" not in caught.value.message


def test_is_written_in_full() -> None:
    assert str(Reference("docker.io", "library/nginx", "1")) == "docker.io/library/nginx:1"
    assert parse_reference("nginx").name == "docker.io/library/nginx"


NOT_FOR_DOCKER = {
    f"a@sha512:{HEX}{HEX}",  # Docker reads it; we cannot verify what it names
    "host_x.com/a",  # Docker's grammar falls back to a repository without any registry
    "a.b/" + "c" * 252,  # Docker 20.10 counts the registry as the distribution-spec does, 28 not
    "",
    "-a",  # not an argument of its command line
}


@pytest.mark.needs("docker")
@pytest.mark.parametrize(
    "text", [row[0] for row in (*READ, *REFUSED) if row[0] not in NOT_FOR_DOCKER]
)
def test_the_docker_client_agrees(text: str) -> None:
    """It checks a reference before it looks for an engine; there is none at that socket."""
    asked = subprocess.run(
        ["docker", "-H", "unix:///nonexistent/socket", "pull", text],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"},
    )
    reached_out = "connect" in asked.stderr.lower() or "daemon" in asked.stderr.lower()
    try:
        parse_reference(text)
        taken = True
    except UsageError:
        taken = False
    assert reached_out == taken, asked.stderr
