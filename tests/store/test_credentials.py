"""Credentials as docker and podman keep them."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from enginery.errors import RemoteError
from enginery.store import credentials
from enginery.store.credentials import Credentials

HOST = "registry.example.com"
REPOSITORY = "team/engines"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def pair(user: str, password: str = "hush") -> str:  # noqa: S107
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def login(path: Path, user: str, key: str = HOST) -> Path:
    return write(path, {"auths": {key: {"auth": pair(user)}}})


def user_for(repository: str = REPOSITORY, host: str = HOST) -> str | None:
    found = credentials.find(host, repository)
    return None if found is None else found.username


def test_where_there_is_no_file_there_is_nothing(home: Path) -> None:
    assert user_for() is None


@pytest.mark.parametrize(
    ("variable", "value", "file"),
    [
        (None, None, ".docker/config.json"),
        (None, None, ".config/containers/auth.json"),
        ("DOCKER_CONFIG", "elsewhere", "elsewhere/config.json"),
        ("XDG_RUNTIME_DIR", "run", "run/containers/auth.json"),
        ("XDG_CONFIG_HOME", "etc", "etc/containers/auth.json"),
        ("REGISTRY_AUTH_FILE", "auth", "auth"),
    ],
)
def test_each_place_is_read(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, value: str, file: str
) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, str(home / value))
    path = login(home / file, "me")
    found = credentials.find(HOST, REPOSITORY)
    assert found == Credentials("me", "hush", "", str(path))
    assert found.basic == f"Basic {pair('me')}"


def test_what_a_variable_names_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login(home / ".docker/config.json", "docker")
    assert user_for() == "docker"
    login(home / ".config/containers/auth.json", "podman")
    assert user_for() == "podman"
    login(home / "run/containers/auth.json", "session")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    assert user_for() == "session"
    login(home / "ci/config.json", "ci")
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "ci"))
    assert user_for() == "ci"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "nothing"))
    assert user_for() is None
    login(home / "nothing", "only")
    assert user_for() == "only"


def test_the_next_file_is_asked_if_the_first_has_nothing_for_the_registry(home: Path) -> None:
    login(home / ".config/containers/auth.json", "other", key="other.example.com")
    login(home / ".docker/config.json", "me")
    assert user_for() == "me"


@pytest.mark.parametrize(
    ("key", "host"),
    [
        (HOST, HOST),
        (f"https://{HOST}", HOST),
        (f"https://{HOST}/", HOST),
        (f"http://{HOST}/v2/", HOST),
        (f"https://{HOST}/v1/", HOST),
        ("localhost:5000", "localhost:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "index.docker.io"),
    ],
)
def test_a_registry_is_known_by_any_of_its_spellings(home: Path, key: str, host: str) -> None:
    login(home / ".docker/config.json", "me", key=key)
    assert user_for(host=host) == "me"


@pytest.mark.parametrize("key", ["example.com", f"{HOST}:443", f"{HOST}.evil.com", "registry"])
def test_another_registry_is_another(home: Path, key: str) -> None:
    login(home / ".docker/config.json", "me", key=key)
    assert user_for() is None


def test_the_most_special_entry_is_the_one(home: Path) -> None:
    keys = {HOST: "all", f"{HOST}/team": "team", f"{HOST}/team/engines": "engines"}
    auths = {key: {"auth": pair(user)} for key, user in keys.items()}
    write(home / ".config/containers/auth.json", {"auths": auths})
    assert user_for("team/engines") == "engines"
    assert user_for("team/others/x") == "team"
    assert user_for("teams") == "all"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "me", "password": "hush"}, ("me", "hush", "")),
        ({"auth": pair("me"), "email": "x"}, ("me", "hush", "")),
        ({"auth": pair("me", "a:b:c")}, ("me", "a:b:c", "")),
        ({"auth": pair("me", "hush\0\0")}, ("me", "hush", "")),
        ({"auth": pair("", ""), "identitytoken": "t"}, ("", "", "t")),
        ({"identitytoken": "t"}, ("", "", "t")),
    ],
)
def test_each_form_of_an_entry_is_read(
    home: Path, entry: dict[str, str], expected: tuple[str, str, str]
) -> None:
    write(home / ".docker/config.json", {"auths": {HOST: entry}})
    found = credentials.find(HOST, REPOSITORY)
    assert found is not None
    assert (found.username, found.password, found.identity_token) == expected


def test_an_entry_that_a_helper_left_empty_is_none(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {HOST: {}}})
    assert user_for() is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"auths": []}',
        '{"auths": {"registry.example.com": {"auth": 3}}}',
        '{"auths": {"registry.example.com": {"auth": "%%%hush"}}}',
        '{"auths": {"registry.example.com": {"auth": "/////w=="}}}',
    ],
)
def test_a_malformed_file_is_an_error_that_names_it(home: Path, content: str) -> None:
    path = write(home / ".docker/config.json", content)
    with pytest.raises(RemoteError) as caught:
        user_for()
    assert str(path) in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_directory_in_the_place_of_a_file_is_an_error(home: Path) -> None:
    (home / ".docker/config.json").mkdir(parents=True)
    with pytest.raises(RemoteError, match=r"config\.json"):
        user_for()


def test_secrets_do_not_show(home: Path) -> None:
    login(home / ".docker/config.json", "me")
    assert "hush" not in repr(credentials.find(HOST, REPOSITORY))


# --- credential helpers


@pytest.fixture
def helper(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes the program `docker-credential-tests`, which notes what it was asked."""
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")

    def make(script: str) -> Path:
        asked = home / "asked"
        text = f'#!/bin/sh\necho "$1" >{asked}\ncat >>{asked}\n{script}\n'
        path = write(home / "bin" / "docker-credential-tests", text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return asked

    return make


@pytest.mark.parametrize(
    "config",
    [
        {"credsStore": "tests"},
        {"credHelpers": {HOST: "tests"}},
        {"credHelpers": {HOST: "tests"}, "credsStore": "missing"},
        {"credHelpers": {f"https://{HOST}": "tests"}, "auths": {HOST: {}}},
        {"credHelpers": {"other.example.com": "missing"}, "credsStore": "tests"},
    ],
)
def test_a_helper_is_asked_for_the_registry(
    home: Path, helper: Callable[[str], Path], config: object
) -> None:
    asked = helper(f"""echo '{{"ServerURL": "{HOST}", "Username": "me", "Secret": "hush"}}'""")
    write(home / ".docker/config.json", config)
    found = credentials.find(HOST, REPOSITORY)
    assert found == Credentials("me", "hush", "", "docker-credential-tests")
    assert asked.read_text() == f"get\n{HOST}"


def test_docker_hub_has_a_name_of_its_own(home: Path, helper: Callable[[str], Path]) -> None:
    asked = helper("""echo '{"Username": "me", "Secret": "hush"}'""")
    write(home / ".docker/config.json", {"credsStore": "tests"})
    assert user_for(host="docker.io") == "me"
    assert asked.read_text() == "get\nhttps://index.docker.io/v1/"


def test_a_helper_may_have_an_identity_token(home: Path, helper: Callable[[str], Path]) -> None:
    helper("""echo '{"Username": "<token>", "Secret": "refresh"}'""")
    write(home / ".docker/config.json", {"credsStore": "tests"})
    found = credentials.find(HOST, REPOSITORY)
    assert found is not None
    assert (found.username, found.password, found.identity_token) == ("", "", "refresh")


@pytest.mark.parametrize(
    "script", ["echo credentials not found in native keychain; exit 1", "echo '{}'"]
)
def test_where_a_helper_has_nothing_the_file_is_asked(
    home: Path, helper: Callable[[str], Path], script: str
) -> None:
    helper(script)
    auths = {HOST: {"auth": pair("me")}}
    write(home / ".docker/config.json", {"credsStore": "tests", "auths": auths})
    assert user_for() == "me"


@pytest.mark.parametrize(
    ("script", "match"), [("echo hush", "answers no credentials"), ("sleep 5", "does not answer")]
)
def test_a_helper_that_is_of_no_use_is_an_error_without_its_words(
    home: Path, helper: Callable[[str], Path], script: str, match: str
) -> None:
    helper(script)
    write(home / ".docker/config.json", {"credsStore": "tests"})
    with pytest.raises(RemoteError, match=match) as caught:
        credentials.find(HOST, REPOSITORY, timeout=0.3)
    assert "docker-credential-tests" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "../../bin/sh", "x;true", "a b"])
def test_a_helper_that_is_not_there_is_an_error(home: Path, name: str) -> None:
    path = write(home / ".docker/config.json", {"credHelpers": {HOST: name}})
    with pytest.raises(RemoteError, match="is not installed") as caught:
        user_for()
    assert str(path) in str(caught.value)


def test_a_helper_for_another_registry_is_not_needed(home: Path) -> None:
    auths = {HOST: {"auth": pair("me")}}
    helpers = {"other.example.com": "missing"}
    write(home / ".docker/config.json", {"credHelpers": helpers, "auths": auths})
    assert user_for() == "me"
