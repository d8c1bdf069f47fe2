"""`[trust]`, `doit sign` and signing on build, with the real doit and real keys."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx_models
import pytest
from conftest import DODO, Project, Run
from keys import Pair, make_pair

from enginery import EngineFilenameSchema, EngineryError, read_verified
from enginery.errors import SignatureError
from enginery.provenance import path_for as provenance_of
from enginery.signing import envelope_path, sign
from enginery.store.layout import LocalStore
from enginery.trust import Policy, check_beside

HEAD = """\
schema = 1
[corpus]
precision = ["fp32"]
targets = ["rtx"]
workspace_mb = 64
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89]
[backbones.plain]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
"""
STORE = '[store]\npath = "store"\n'
TRUST = '[trust]\nkeys = ["team.pub.pem"]\nrequire = "{}"\n'
SIGN = 'sign_with = "team.pem"\n'
HALF = """\
[backbones.half]
onnx = "half.onnx"
expected_input_shape = [1, 3, 16, 16]
precision = ["fp16"]
"""


class Team:
    """A project, the team's key and a stranger's."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(folder)
        self.pair = Pair(folder / "team.pem", folder / "team.pub.pem", None)
        self.stranger = Pair(folder / "stranger.pem", folder / "stranger.pub.pem", None)

    @property
    def engine(self) -> Path:
        return self.project.engine("plain")

    @property
    def envelope(self) -> Path:
        return envelope_path(self.engine)

    @property
    def policy(self) -> Policy:
        return Policy(keys=(self.pair.public,), require="all")

    def configure(self, *tables: str, store: str = STORE) -> None:
        (self.project.path / "corpus.toml").write_text(HEAD + store + "".join(tables))

    def doit(self, *arguments: str) -> Run:
        run = self.project.doit(*arguments)
        assert "Traceback" not in run.said, run.said
        return run

    def status(self) -> str:
        """The letter that doit has for the task."""
        run = self.doit("list", "--status")
        assert run.returncode == 0, run.said
        (line,) = (line for line in run.stdout.splitlines() if line[1:].split()[0] == "plain")
        return line[0]

    def reason(self) -> str:
        return self.doit("info", "plain").stdout

    def is_signed(self) -> bool:
        try:
            check_beside(self.policy, self.engine, read_sha256(self.engine), origin="local")
        except SignatureError:
            return False
        return True


def read_sha256(engine: Path) -> str:
    return Path(f"{engine}.sha256").read_text().split()[0]


@pytest.fixture(scope="module")
def built_team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A signed engine, which was built once; never changed, only copied."""
    team = Team(tmp_path_factory.mktemp("team"))
    folder = team.project.path
    (folder / "dodo.py").write_text(DODO)
    onnx_models.write_small(folder / "plain.onnx", seed=1)
    make_pair(folder, name="team")
    make_pair(folder, "p256", name="stranger")
    team.configure(TRUST.format("all"), SIGN)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ENGINERY_STORE", raising=False)
        run = team.doit()
    assert run.built == ["plain"], run.said
    return team


@pytest.fixture
def team(built_team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    monkeypatch.delenv("ENGINERY_STORE", raising=False)
    monkeypatch.delenv("ENGINERY_SIGNING_KEY", raising=False)
    copy = Team(tmp_path / "project")
    shutil.copytree(built_team.project.path, copy.project.path)
    return copy


def assert_mended(team: Team, words: str) -> None:
    """It is not up to date, the reason is told, and doit mends it."""
    assert team.status() == "R"
    assert words in team.reason()
    run = team.doit()
    assert run.returncode == 0, run.said
    assert team.is_signed()
    assert team.status() == "U"
    assert team.doit().stdout.startswith("-- plain")


# --- what is signed, and when


def test_a_build_is_signed(team: Team) -> None:
    assert team.is_signed()
    assert json.loads(team.envelope.read_bytes())["payloadType"] == "application/vnd.in-toto+json"
    assert team.status() == "U"


def test_the_signature_is_restored_too(team: Team) -> None:
    before = team.envelope.read_bytes()
    shutil.rmtree(team.project.engines)
    run = team.doit()
    assert run.built == []
    assert "restored from the local store" in run.stdout
    assert team.envelope.read_bytes() == before
    assert team.is_signed()


def test_the_key_of_the_environment_comes_first(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.configure(TRUST.format("all").replace("team", "stranger"), SIGN)
    monkeypatch.setenv("ENGINERY_SIGNING_KEY", str(team.stranger.private))
    run = team.doit()
    assert run.built == ["plain"]
    policy = Policy(keys=(team.stranger.public,), require="all")
    assert read_verified(team.engine, policy) == team.engine.read_bytes()
    assert not team.is_signed()


def test_the_key_of_the_environment_alone(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.configure()
    team.doit("clean")
    monkeypatch.setenv("ENGINERY_SIGNING_KEY", str(team.pair.private))
    assert team.doit().built == ["plain"]
    assert team.is_signed()


def test_clean_takes_the_signature(team: Team) -> None:
    run = team.doit("clean")
    assert f"{team.project.engines.name}/" in run.stdout
    assert not list(team.project.engines.iterdir())


def test_a_build_without_a_key_takes_the_old_signature_away(team: Team) -> None:
    team.configure()
    onnx_models.write_small(team.project.path / "plain.onnx", seed=9)
    assert team.doit().built == ["plain"]
    assert not team.envelope.exists()


def test_a_directory_in_the_place_of_an_old_signature(team: Team) -> None:
    """It is someone's own, and no reason why nothing can be built any more."""
    team.configure(store="[store]\nlocal = false\n")
    team.envelope.unlink()
    team.envelope.mkdir()
    onnx_models.write_small(team.project.path / "plain.onnx", seed=9)
    run = team.doit()
    assert (run.returncode, run.built) == (0, ["plain"]), run.said


def test_a_key_in_the_home_folder(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Private keys do not lie beside the corpus; `path` under [store] takes a tilde, too."""
    home = team.project.path / "home"
    home.mkdir()
    team.pair.private.rename(home / "team.pem")
    monkeypatch.setenv("HOME", str(home))
    team.configure('[trust]\nsign_with = "~/team.pem"\n')
    run = team.doit("sign")
    assert run.returncode == 0, run.said


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_signed_in_parallel(team: Team, kind: str) -> None:
    onnx_models.write_small(team.project.path / "half.onnx", seed=2)
    team.configure(HALF, TRUST.format("all"), SIGN)
    shutil.rmtree(team.project.engines)
    run = team.doit("-n", "2", "-P", kind)
    assert run.built == ["half"]
    policy = team.policy
    for path in team.project.engines.glob("*.engine"):
        assert read_verified(path, policy)


def test_a_twin_is_signed_under_its_own_name(team: Team) -> None:
    twin = HEAD[HEAD.index("[backbones") :].replace("backbones.plain", "backbones.twin")
    team.configure(twin, TRUST.format("all"), SIGN)
    run = team.doit()
    assert run.built == []
    assert read_verified(team.project.engine("twin"), team.policy)
    # Who cannot sign cannot take it under another name.
    team.configure(twin.replace("twin", "third"), TRUST.format("all"))
    run = team.doit("third")
    assert run.built == ["third"] or run.returncode != 0
    assert "third" in run.stderr


def test_under_all_who_has_no_key_is_told(team: Team) -> None:
    """What is built here is not believed here; that must not pass for a success for ever."""
    team.configure(TRUST.format("all"))
    onnx_models.write_small(team.project.path / "plain.onnx", seed=9)
    first = team.doit()
    second = team.doit()
    assert second.built == [], "built again and again"
    assert "sign" in first.stderr or first.returncode != 0


# --- what is demanded


def test_none_demands_nothing(team: Team) -> None:
    team.configure()
    team.envelope.unlink()
    assert team.status() == "U"
    team.envelope.write_text("garbage")
    assert team.status() == "U"


def test_remote_demands_nothing_of_what_is_here(team: Team) -> None:
    team.configure(TRUST.format("remote"))
    team.envelope.unlink()
    assert team.status() == "U"
    shutil.rmtree(team.project.engines)
    assert team.doit().built == []


def test_all_demands_it_of_what_the_local_store_has(team: Team) -> None:
    team.configure()
    team.doit("clean")
    assert team.doit().built == ["plain"]
    shutil.rmtree(team.project.engines)
    team.configure(TRUST.format("all"), SIGN)
    run = team.doit()
    assert run.built == ["plain"]
    assert "is not signed" in run.stderr
    assert team.is_signed()
    shutil.rmtree(team.project.engines)
    assert team.doit().built == []


# --- what is refused


def _strip(team: Team) -> None:
    team.envelope.unlink()


def _other_key(team: Team) -> None:
    team.envelope.write_bytes(sign(provenance_of(team.engine).read_bytes(), team.stranger.private))


def _garbage(team: Team) -> None:
    team.envelope.write_bytes(b"\x00garbage")


def _directory(team: Team) -> None:
    team.envelope.unlink()
    team.envelope.mkdir()


def _other_payload(team: Team) -> None:
    document = json.loads(provenance_of(team.engine).read_bytes())
    document["predicate"]["buildDefinition"]["buildType"] += "x"
    team.envelope.write_bytes(sign(json.dumps(document).encode(), team.pair.private))


def _release_type(team: Team) -> None:
    document = provenance_of(team.engine).read_bytes()
    team.envelope.write_bytes(
        sign(document, team.pair.private, payload_type="application/vnd.enginery.release+json")
    )


def _other_statement(team: Team) -> None:
    """The signed statement of another engine of the same team, with its signature."""
    document = provenance_of(team.engine).read_bytes().replace(b"plain_sm86", b"other_sm86")
    team.envelope.write_bytes(sign(document, team.pair.private))


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (_strip, "is not signed"),
        (_other_key, "signed by no key that is trusted here"),
        (_garbage, "malformed"),
        (_directory, "cannot be read"),
        (_other_payload, "about another document"),
        (_release_type, "application/vnd.enginery.release+json"),
        (_other_statement, "about another document"),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_a_signature_that_is_none(
    team: Team, forge: Callable[[Team], None], words: str, *, stored: bool
) -> None:
    if not stored:
        shutil.rmtree(team.project.path / "store")
    forge(team)
    with pytest.raises(SignatureError):
        read_verified(team.engine, team.policy)
    with pytest.raises(SignatureError):
        read_verified(team.engine, Policy(keys=(team.pair.public,), require="remote"))
    assert read_verified(team.engine, Policy()) == team.engine.read_bytes()
    assert read_verified(team.engine) == team.engine.read_bytes()
    assert_mended(team, words)


def test_an_engine_under_another_name(team: Team) -> None:
    """Other hardware's engine, with all of its files and its signature, under our name."""
    team.configure(TRUST.format("all"), SIGN, HALF.replace('precision = ["fp16"]\n', ""))
    onnx_models.write_small(team.project.path / "half.onnx", seed=2)
    team.doit()
    ours, other = team.engine, team.project.engine("half")
    for suffix in ("", ".provenance.json", ".dsse.json"):
        Path(f"{ours}{suffix}").write_bytes(Path(f"{other}{suffix}").read_bytes())
    Path(f"{ours}.sha256").write_text(f"{read_sha256(other)}  {ours.name}\n")
    with pytest.raises(EngineryError):
        read_verified(ours, team.policy)
    assert_mended(team, "provenance")


def test_an_engine_moved_to_other_hardware(team: Team) -> None:
    """Renamed with all its proofs to another SM's name, the provenance too."""
    tag = EngineFilenameSchema.parse(team.engine.name)
    assert tag.sm == (86, 89)
    engine = team.engine
    moved = engine.with_name(engine.name.replace("sm86-89", "sm120"))
    for suffix in ("", ".provenance.json", ".dsse.json"):
        shutil.copy(f"{engine}{suffix}", f"{moved}{suffix}")
    Path(f"{moved}.sha256").write_text(f"{read_sha256(engine)}  {moved.name}\n")
    with pytest.raises(EngineryError):
        read_verified(moved, team.policy)
    document = provenance_of(moved).read_bytes().replace(engine.name.encode(), moved.name.encode())  # fmt: skip
    provenance_of(moved).write_bytes(document)
    assert read_verified(moved) == engine.read_bytes()  # nothing is demanded
    with pytest.raises(SignatureError, match="another document"):
        read_verified(moved, team.policy)


def test_an_old_engine_with_its_signature_is_not_believed_for_new_inputs(team: Team) -> None:
    onnx_models.write_small(team.project.path / "plain.onnx", seed=9)
    assert team.status() == "R"
    assert "the ONNX model changed" in team.reason() or "onnx" in team.reason()
    assert team.doit().built == ["plain"]


def test_a_forged_engine_in_the_store(team: Team) -> None:
    """An engine of who may write to the store, all of whose files fit."""
    shutil.rmtree(team.project.path / "store")
    engine = team.engine.read_bytes() + b"forged"
    store = LocalStore(team.project.path / "store")
    import hashlib

    digest = hashlib.sha256(engine).hexdigest()
    document = provenance_of(team.engine).read_bytes().replace(
        read_sha256(team.engine).encode(), digest.encode()
    )  # fmt: skip
    forged = team.project.path / "forged"
    forged.write_bytes(engine)
    for envelope in (None, sign(document, team.stranger.private), team.envelope.read_bytes()):
        store.add(
            forged, sha256_hex=digest, document=document, envelope=envelope,
            name=team.engine.name, annotations={},
        )  # fmt: skip
        shutil.copytree(team.project.engines, team.project.path / "kept")
        shutil.rmtree(team.project.engines)
        run = team.doit()
        assert run.built == ["plain"], run.said
        assert "is not taken from a store" in run.stderr or "not believed" in run.stderr
        assert read_verified(team.engine, team.policy) != engine
        shutil.rmtree(team.project.path / "kept")


# --- doit sign


def test_sign(team: Team) -> None:
    team.envelope.unlink()
    run = team.doit("sign")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"{team.engine.name}: signed\n"
    assert team.is_signed()
    assert team.status() == "U"


def test_sign_reaches_the_store(team: Team) -> None:
    team.configure()
    team.doit("clean")
    team.doit()
    team.configure(TRUST.format("all"))
    assert team.doit("sign", "--key", "team.pem").returncode == 0
    shutil.rmtree(team.project.engines)
    run = team.doit()
    assert run.built == [], run.said
    assert team.is_signed()


def test_sign_with_another_key(team: Team) -> None:
    run = team.doit("sign", "--key", str(team.stranger.private), "plain")
    assert run.returncode == 0
    assert team.status() == "R"
    team.configure(TRUST.format("all").replace("team", "stranger"))
    assert team.status() == "U"


def test_sign_what_is_stale(team: Team) -> None:
    before = team.envelope.read_bytes()
    onnx_models.write_small(team.project.path / "plain.onnx", seed=9)
    run = team.doit("sign")
    assert "plain is left out" in run.stderr
    assert team.envelope.read_bytes() == before


def test_sign_without_a_key(team: Team) -> None:
    team.configure()
    run = team.doit("sign")
    assert run.returncode == 1
    assert run.stderr.startswith("ERROR: no key is given")
    assert run.stderr.count("\n") == 1


def test_sign_in_a_folder_that_takes_no_file(team: Team) -> None:
    team.envelope.unlink()
    team.envelope.mkdir()
    (team.envelope / "mine").write_text("mine")
    run = team.doit("sign")
    assert run.returncode in (0, 1)
    if run.returncode:
        assert run.stderr.startswith("ERROR: ")


def test_sign_names_of_no_engine(team: Team) -> None:
    run = team.doit("sign", "nosuch")
    assert run.returncode in (1, 3)
    assert "no engine 'nosuch'; known are plain" in run.stderr


# --- keys that cannot be used


def _missing(path: Path) -> None:
    path.unlink()


def _no_pem(path: Path) -> None:
    path.write_bytes(b"\x00nonsense")


def _public(path: Path) -> None:
    shutil.copy(path.with_name("team.pub.pem"), path)


def _rsa(path: Path) -> None:
    make_pair(path.parent, "rsa", name="rsa")
    shutil.copy(path.with_name("rsa.pem"), path)


def _encrypted(path: Path) -> None:
    make_pair(path.parent, name=path.stem, password="secret")  # noqa: S106


SPOILT = [
    (_missing, "is not there"),
    (_no_pem, "no private key"),
    (_public, "is no private key"),
    (_rsa, "use Ed25519 or P-256"),
    (_encrypted, "ENGINERY_KEY_PASSWORD"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILT)
def test_a_private_key_that_cannot_be_used(
    team: Team, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(team.pair.private)
    for arguments in (("sign",), ()):
        onnx_models.write_small(team.project.path / "plain.onnx", seed=1)
        if not arguments:
            onnx_models.write_small(team.project.path / "plain.onnx", seed=9)
        run = team.doit(*arguments)
        assert run.returncode == 1, run.said
        assert "team.pem" in run.said
        assert words in run.said
    assert run.built == []
    # Nothing is half done: with the key back, it is built and signed.
    make_pair(team.project.path, name="team")
    assert team.doit().built == ["plain"]
    assert team.is_signed()


def test_a_bad_private_key_is_told_before_the_build(team: Team) -> None:
    """Hours of building for nothing would be dear."""
    team.pair.private.unlink()
    onnx_models.write_small(team.project.path / "plain.onnx", seed=9)
    run = team.doit()
    assert run.returncode == 1
    assert "building" not in run.stderr


def test_a_bad_private_key_matters_only_where_something_is_signed(team: Team) -> None:
    team.pair.private.unlink()
    assert team.status() == "U"
    shutil.rmtree(team.project.engines)
    run = team.doit()
    assert (run.returncode, run.built) == (0, [])


def test_an_encrypted_key(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pair(team.project.path, name="team", password="secret")  # noqa: S106
    monkeypatch.setenv("ENGINERY_KEY_PASSWORD", "secret")
    assert team.status() == "R"
    run = team.doit()
    assert run.built == ["plain"]
    assert team.is_signed()
    assert "secret" not in run.said


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing, "is not there"),
        (_no_pem, "no file with one public key"),
        (lambda path: shutil.copy(path.with_name("team.pem"), path), "is a private key"),
        (lambda path: make_pair(path.parent, "rsa", name="team"), "use Ed25519 or P-256"),
    ],
)
def test_a_public_key_that_cannot_be_used(
    team: Team, spoil: Callable[[Path], object], words: str
) -> None:
    """Not a reason to build everything again: an error that names the file."""
    spoil(team.pair.public)
    before = team.project.snapshot()
    for arguments in ((), ("list", "--status"), ("info", "plain"), ("release",)):
        run = team.doit(*arguments)
        assert run.returncode != 0, (arguments, run.said)
        assert "team.pub.pem" in run.said, arguments
        assert words in run.said, arguments
        assert run.built == []
    assert team.project.snapshot() == before


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[trust]\nrequire = "all"\n', 'keys = ["team.pub.pem"]'),
        ('[trust]\nrequire = "remote"\nkeys = []\n', 'keys = ["team.pub.pem"]'),
        ('[trust]\nrequire = "some"\n', 'require = "remote"'),
        ("[trust]\nkey = []\n", "did you mean 'keys'?"),
        ("[trust]\nsign_with = 1\n", 'sign_with = "team.key.pem"'),
        ('[trust]\nsign_with = "a\\u0000b"\n', "NUL"),
    ],
)
def test_a_mistake_in_the_table(team: Team, table: str, words: str) -> None:
    team.configure(table)
    run = team.doit()
    assert run.returncode == 3
    assert "corpus.toml: trust" in run.stderr
    assert words in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_other_users_may_read_the_key(team: Team) -> None:
    team.pair.private.chmod(0o644)
    run = team.doit("sign")
    assert run.returncode == 0
    assert "chmod 600" in run.stderr
    assert os.access(team.pair.private, os.R_OK)


def test_without_packages_for_signatures_an_engine_that_needs_none_is_read(team: Team) -> None:
    team.configure()
    blocked = team.project.path / "blocked"
    (blocked / "securesystemslib").mkdir(parents=True)
    (blocked / "securesystemslib" / "__init__.py").write_text("raise ImportError('not there')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(blocked))
        assert team.status() == "U"
        assert team.doit().returncode == 0
