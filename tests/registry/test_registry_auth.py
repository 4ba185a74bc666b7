"""Who we are to a registry: Basic, tokens, files and helpers; and that nobody else learns it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import TransportError
from builder.oci.image import Image, Platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.challenge import merge_scopes, parse_challenges
from builder.transport.registry.credentials import find_credentials
from builder.transport.registry.push import Push, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings, settings_from

AMD64 = Platform("linux", "amd64")
MakeImage = Callable[..., Image]
NewStore = Callable[[], Store]
PAIR = base64.b64encode(b"ann:s3cret-pw").decode()
QUICK = Settings(backoff=0.02, tries=3)
needs_registry = pytest.mark.needs("docker-registry")
needs_tokens = pytest.mark.needs("docker-registry", "openssl")


def logged_in(folder: Path, *hosts: str, pair: str = PAIR) -> Settings:
    """Settings whose one file knows `ann` at these hosts."""
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": {host: {"auth": pair} for host in hosts}}))
    return QUICK._replace(auth_files=(str(path),))


# -- challenges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/t",service="r",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {"realm": "https://a/t", "service": "r", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        (
            'Bearer realm="a, b" , service=plain, scope="x \\"y\\", z"',
            [("bearer", {"realm": "a, b", "service": "plain", "scope": 'x "y", z'})],
        ),
        (
            'Negotiate, Basic realm="x, y", Bearer realm="z"',
            [("negotiate", {}), ("basic", {"realm": "x, y"}), ("bearer", {"realm": "z"})],
        ),
        ("BEARER REALM=x", [("bearer", {"realm": "x"})]),
        ('Bearer realm="never closed', [("bearer", {"realm": ""})]),
        ("", []),
        ("=,,=", []),
    ],
)
def test_a_challenge_is_read(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [tuple(each) for each in parse_challenges([header])] == expected


@given(st.text(alphabet='Bearer ,="\\\\x\t', max_size=200))
def test_no_challenge_is_too_odd(header: str) -> None:
    for challenge in parse_challenges([header, header]):
        assert challenge.scheme == challenge.scheme.lower() != ""


@pytest.mark.parametrize("piece", [" ", ",", '"', "a ", 'a="', "a=", "\\", "a,", '\\"'])
def test_a_long_challenge_takes_no_time(piece: str) -> None:
    began = time.monotonic()
    parse_challenges([piece * 30_000, 'Bearer a="' + piece * 30_000])
    assert time.monotonic() - began < 2


def test_scopes_are_merged_by_resource() -> None:
    scopes = ("repository:b:pull", "repository:a:push,pull", "repository:b:push", "nonsense")
    assert merge_scopes(scopes) == ("repository:a:pull,push", "repository:b:pull,push")


# -- where credentials come from -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "registry", "repository"),
    [
        ("r.example", "r.example", "a/b"),
        ("https://r.example", "r.example", "a/b"),
        ("https://r.example/v1/", "r.example", "a/b"),
        ("r.example/a", "r.example", "a/b"),
        ("r.example/a/b", "r.example", "a/b"),
        ("r.example:5000", "r.example:5000", "a"),
        ("https://index.docker.io/v1/", "docker.io", "library/nginx"),
        ("docker.io", "docker.io", "library/nginx"),
        ("docker.io/library", "docker.io", "library/nginx"),
    ],
)
def test_an_entry_is_found(tmp_path: Path, key: str, registry: str, repository: str) -> None:
    found = find_credentials(logged_in(tmp_path, key), registry, repository)
    assert found is not None and (found.user, found.password) == ("ann", "s3cret-pw")
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    "key",
    ["r.example/ab", "r.example/a/b/c", "r.example:80", "other.r.example", "example", "r.exam"],
)
def test_an_entry_for_something_else_is_not_taken(tmp_path: Path, key: str) -> None:
    assert find_credentials(logged_in(tmp_path, key), "r.example", "a/b") is None


def test_the_closest_path_wins(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    other = base64.b64encode(b"bob:other").decode()
    path.write_text(json.dumps({"auths": {"r.io": {"auth": other}, "r.io/a": {"auth": PAIR}}}))
    settings = Settings(auth_files=(str(path),))
    near, far = (find_credentials(settings, "r.io", name) for name in ("a/b", "c"))
    assert near is not None and far is not None
    assert (near.user, far.user) == ("ann", "bob")


def helper(folder: Path, name: str, body: str) -> dict[str, str]:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nread server\n{body}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder)}


def asking(folder: Path, environment: dict[str, str], document: object) -> Settings:
    (folder / ".docker").mkdir(exist_ok=True)
    (folder / ".docker" / "config.json").write_text(json.dumps(document))
    return settings_from(environment)


def test_a_credential_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = helper(
        tmp_path, "fake", 'echo "{\\"Username\\":\\"$server\\",\\"Secret\\":\\"s3cret-pw\\"}"'
    )
    monkeypatch.setenv("PATH", env["PATH"])
    for document in ({"credHelpers": {"r.io": "fake"}}, {"credsStore": "fake"}):
        found = find_credentials(asking(tmp_path, env, document), "r.io", "a")
        assert found is not None and (found.user, found.password) == ("r.io", "s3cret-pw")
        assert found.source == "credential helper docker-credential-fake"


def test_a_helper_may_give_an_identity_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = helper(tmp_path, "fake", 'echo \'{"Username":"<token>","Secret":"refresh-1"}\'')
    monkeypatch.setenv("PATH", env["PATH"])
    found = find_credentials(asking(tmp_path, env, {"credsStore": "fake"}), "r.io", "a")
    assert found is not None and found.identity_token == "refresh-1"


def test_a_failing_helper_is_named_and_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = helper(tmp_path, "fake", "echo s3cret-pw; echo s3cret-pw >&2; exit 3")
    monkeypatch.setenv("PATH", env["PATH"])
    with pytest.raises(TransportError, match=r"-fake: it failed for r\.io") as error:
        find_credentials(asking(tmp_path, env, {"credsStore": "fake"}), "r.io", "a")
    assert "s3cret" not in f"{error.value.message} {error.value.hint}"


def test_a_missing_helper_is_named(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    with pytest.raises(TransportError, match="docker-credential-gone: it is not on PATH"):
        find_credentials(asking(tmp_path, env, {"credsStore": "gone"}), "r.io", "a")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        ('{"auths": {"r.io": {"auth": "!s3cret!"}}}', "is not base64 of NAME:PASSWORD"),
        ('{"auths": {"r.io": {"auth": 5}}}', "is not base64 of NAME:PASSWORD"),
        ('{"auths": {"r.io": 7}}', "is not base64 of NAME:PASSWORD"),
    ],
)
def test_a_broken_file_is_named_and_not_quoted(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(TransportError) as caught:
        find_credentials(Settings(auth_files=(str(path),)), "r.io", "a")
    assert says in caught.value.message and str(path) in caught.value.message
    assert "s3cret" not in caught.value.message


def test_the_environment_names_the_files() -> None:
    settings = settings_from(
        {
            "HOME": "/h",
            "REGISTRY_AUTH_FILE": "/r.json",
            "DOCKER_CONFIG": "/d",
            "XDG_RUNTIME_DIR": "/run/1",
            "HTTPS_PROXY": "http://u:hidden@p:3128",
            "NO_PROXY": "a.b",
            "SSL_CERT_FILE": "/ca.pem",
        }
    )
    assert settings.auth_files == (
        "/r.json",
        "/d/config.json",
        "/run/1/containers/auth.json",
        "/h/.config/containers/auth.json",
    )
    assert settings.required_auth_file == "/r.json"
    assert (settings.ca_file, settings.no_proxy) == ("/ca.pem", "a.b")
    assert settings.proxies == {"https": "http://u:hidden@p:3128"}
    assert "hidden" not in repr(settings)


def test_a_required_file_must_be_there(tmp_path: Path) -> None:
    settings = settings_from({"HOME": str(tmp_path), "REGISTRY_AUTH_FILE": str(tmp_path / "no")})
    with pytest.raises(TransportError, match="expected a file with registry credentials"):
        find_credentials(settings, "r.io", "a")


# -- at a registry with htpasswd -----------------------------------------------------------------


@needs_registry
def test_basic_is_sent_once_it_is_asked_for(
    start_registry: Callable[..., str],
    htpasswd: str,
    before: Callable[..., Any],
    store: Store,
    make_image: MakeImage,
    tmp_path: Path,
) -> None:
    proxy = before(upstream=start_registry(htpasswd))
    settings = logged_in(tmp_path, proxy.name)
    reference = parse_reference(f"{proxy.name}/a:1")
    image = make_image(store, (1, 1000))
    with Registry(settings) as session:
        push_all(session, store, [Push(image, (reference,))])
    assert [one.authorization for one in proxy.seen[:2]] == [None, f"Basic {PAIR}"]
    with Registry(settings) as session:
        (result,) = push_all(session, store, [Push(image, (reference,))])
    assert result.requests == 2


@needs_registry
def test_unauthorized_says_what_was_tried(
    start_registry: Callable[..., str], htpasswd: str, tmp_path: Path
) -> None:
    registry = start_registry(htpasswd)
    reference = parse_reference(f"{registry}/a:1")
    wrong = logged_in(tmp_path, registry, pair=base64.b64encode(b"ann:wr0ng").decode())
    for settings, tried in (
        (QUICK, "none, no file or helper has any"),
        (wrong, str(tmp_path / "config.json")),
    ):
        with Registry(settings) as session, pytest.raises(TransportError) as caught:
            session.pull(reference, AMD64, None)  # type: ignore[arg-type]  # never reached
        error = caught.value
        assert f"unauthorized (credentials tried: {tried})" in error.message
        assert error.hint == f"docker login {registry}"
        assert "wr0ng" not in error.message


# -- tokens ----------------------------------------------------------------------------------------


@needs_tokens
def test_a_token_is_fetched_once_and_kept(
    start_registry: Callable[..., str],
    token_server: Any,
    before: Callable[..., Any],
    store: Store,
    new_store: NewStore,
    make_image: MakeImage,
    tmp_path: Path,
) -> None:
    proxy = before(upstream=start_registry(token_server.auth))
    settings = logged_in(tmp_path, proxy.name)
    reference = parse_reference(f"{proxy.name}/public/a:1")
    image = make_image(store, (1, 1000), (2, 1000), (3, 1000))
    with Registry(settings) as session:
        push_all(session, store, [Push(image, (reference,))])
    ((method, fields, authorization),) = token_server.seen
    assert (method, authorization) == ("GET", f"Basic {PAIR}")
    assert fields["service"] == ["reg, one"]
    assert fields["scope"] == ["repository:public/a:pull,push"]
    assert {one.authorization for one in proxy.seen[1:]} == {f"Bearer {token_server.issued[0]}"}

    with Registry(settings) as session:
        (result,) = push_all(session, store, [Push(image, (reference,))])
    assert (result.requests, result.sent.blobs) == (3, 0)

    with Registry(QUICK) as session:  # anybody may pull it
        session.pull(reference, AMD64, new_store())
    assert token_server.seen[-1][2] is None


@needs_tokens
def test_an_old_token_is_renewed_before_it_expires(
    start_registry: Callable[..., str],
    token_server: Any,
    store: Store,
    make_image: MakeImage,
    tmp_path: Path,
) -> None:
    token_server.expires_in = 0.001
    registry = start_registry(token_server.auth)
    with Registry(logged_in(tmp_path, registry)) as session:
        push_all(
            session,
            store,
            [Push(make_image(store, (1, 10)), (parse_reference(f"{registry}/a:1"),))],
        )
    assert len(token_server.seen) > 3


@needs_tokens
def test_an_identity_token_is_posted(
    start_registry: Callable[..., str],
    token_server: Any,
    store: Store,
    make_image: MakeImage,
    tmp_path: Path,
) -> None:
    registry = start_registry(token_server.auth)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {registry: {"identitytoken": "refresh-1"}}}))
    with Registry(QUICK._replace(auth_files=(str(path),))) as session:
        push_all(
            session,
            store,
            [Push(make_image(store, (1, 10)), (parse_reference(f"{registry}/a:1"),))],
        )
    ((method, fields, authorization),) = token_server.seen
    assert (method, authorization) == ("POST", None)
    assert fields["grant_type"] == ["refresh_token"] and fields["refresh_token"] == ["refresh-1"]


@needs_tokens
def test_a_refusing_token_server_is_an_error_without_secrets(
    start_registry: Callable[..., str], token_server: Any, tmp_path: Path
) -> None:
    registry = start_registry(token_server.auth)
    wrong = logged_in(tmp_path, registry, pair=base64.b64encode(b"ann:wr0ng").decode())
    with Registry(wrong) as session, pytest.raises(TransportError) as caught:
        session.tags(parse_reference(f"{registry}/a"))
    assert "/token answered 401 (credentials tried: " in caught.value.message
    assert "wr0ng" not in caught.value.message


@needs_tokens
def test_a_mount_asks_for_both_repositories(
    start_registry: Callable[..., str],
    token_server: Any,
    store: Store,
    make_image: MakeImage,
    tmp_path: Path,
) -> None:
    registry = start_registry(token_server.auth)
    image = make_image(store, (1, 100_000))
    with Registry(logged_in(tmp_path, registry)) as session:
        push_all(session, store, [Push(image, (parse_reference(f"{registry}/a:1"),))])
        (result,) = push_all(session, store, [Push(image, (parse_reference(f"{registry}/b:1"),))])
    assert (result.sent.blobs, result.mounted.blobs) == (0, 2)


# -- nobody else gets them -----------------------------------------------------------------------


@needs_registry
def test_credentials_go_to_the_registry_only(
    start_registry: Callable[..., str],
    htpasswd: str,
    before: Callable[..., Any],
    fault: Callable[..., Any],
    store: Store,
    new_store: NewStore,
    make_image: MakeImage,
    tmp_path: Path,
) -> None:
    """Uploads and downloads lead to another port, which serves them, without being asked to prove
    that it may: the same data behind a registry without authentication."""
    data = tmp_path / "data"
    elsewhere = before(upstream=start_registry(data=data))
    home = before(upstream=start_registry(htpasswd, data=data))
    settings = logged_in(tmp_path, home.name)._replace(jobs=1)
    image = make_image(store, (1, 100_000), (2, 200_000))
    reference = parse_reference(f"{home.name}/a/b:1")

    # the session is opened there, but its address given out by the registry at home
    session_there = fault("POST", "/uploads/", times=9, status=307)
    session_there.headers = {"Location": f"http://{elsewhere.name}/v2/a/b/blobs/uploads/"}
    home.faults.append(session_there)
    with Registry(settings) as session:
        push_all(session, store, [Push(image, (reference,))])
    assert elsewhere.count("PUT", "/uploads/") == 3

    for layer in image.layers:
        home.faults.append(fault("GET", layer.blob.digest, times=9, status=307))
        home.faults[-1].headers = {
            "Location": f"http://{elsewhere.name}/v2/a/b/blobs/{layer.blob.digest}?sig=x"
        }
    with Registry(settings) as session:
        session.pull(reference, AMD64, new_store())
    assert elsewhere.count("GET", "/blobs/") == 2

    assert {one.authorization for one in elsewhere.seen} == {None}
    assert {one.authorization for one in home.seen} == {None, f"Basic {PAIR}"}


@needs_tokens
def test_a_token_server_that_redirects_does_not_pass_credentials_on(
    start_registry: Callable[..., str],
    token_server: Any,
    before: Callable[..., Any],
    tmp_path: Path,
) -> None:
    registry = start_registry(token_server.auth)
    elsewhere = before(upstream=registry)
    token_server.status = 307
    token_server.extra_header = {"Location": f"http://{elsewhere.name}/stolen"}
    with Registry(logged_in(tmp_path, registry)) as session, pytest.raises(TransportError):
        session.tags(parse_reference(f"{registry}/a"))
    assert [one.authorization for one in elsewhere.seen] == [None]

    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {registry: {"identitytoken": "refresh-1"}}}))
    with (
        Registry(QUICK._replace(auth_files=(str(path),))) as session,
        pytest.raises(TransportError, match="answered 307"),
    ):
        session.tags(parse_reference(f"{registry}/a"))
    assert len(elsewhere.seen) == 1  # a body with a secret is not sent on


@needs_registry
@pytest.mark.parametrize(
    "realm",
    ["http://tokens.example/token", "http://ann@127.0.0.1/token", "ftp://127.0.0.1/", "", "//x"],
)
def test_a_realm_in_the_clear_elsewhere_gets_nothing(
    before: Callable[..., Any], fault: Callable[..., Any], tmp_path: Path, realm: str
) -> None:
    proxy = before(fault("GET", "", times=9, status=401))
    proxy.faults[0].headers = {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'}
    with Registry(logged_in(tmp_path, proxy.name)) as session, pytest.raises(TransportError) as e:
        session.tags(parse_reference(f"{proxy.name}/a"))
    assert "its token server" in e.value.message
    assert [one.authorization for one in proxy.seen] == [None]


@needs_registry
def test_a_manifests_urls_are_not_asked(
    registry: str,
    before: Callable[..., Any],
    fault: Callable[..., Any],
    store: Store,
    new_store: NewStore,
    make_image: MakeImage,
) -> None:
    elsewhere = before()
    image = make_image(store, (1, 1000))
    reference = parse_reference(f"{registry}/with/urls:1")
    document = json.loads(image.manifest_bytes())
    for layer in document["layers"]:
        layer["urls"] = [f"http://{elsewhere.name}/{layer['digest']}"]
    serving = before(fault("GET", "/manifests/", status=200, body=json.dumps(document).encode()))
    serving.faults[0].headers = {"Content-Type": document["mediaType"]}
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (reference,))])
        session.pull(reference._replace(registry=serving.name), AMD64, new_store())
    assert elsewhere.seen == []


@needs_registry
def test_an_echoed_secret_is_not_shown(
    before: Callable[..., Any], fault: Callable[..., Any], tmp_path: Path
) -> None:
    proxy = before(fault("GET", "", status=401), fault("GET", "", status=403, after=0))
    proxy.faults[0].headers = {"WWW-Authenticate": 'Basic realm="x"'}
    proxy.faults[1].body = json.dumps(
        {"errors": [{"code": "DENIED", "message": f"no\n\x1b[31m s3cret-pw {PAIR} for you"}]}
    ).encode()
    with Registry(logged_in(tmp_path, proxy.name)) as session, pytest.raises(TransportError) as e:
        session.tags(parse_reference(f"{proxy.name}/a"))
    assert "denied" in e.value.message and "*** *** for you" in e.value.message
    assert "\n" not in e.value.message and "\x1b" not in e.value.message
