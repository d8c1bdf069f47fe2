"""The command `enginery`, as a script or a device runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx_models
import pytest
from artifacts import (
    flip_bit,
    make_document,
    make_recipe,
    provenance_of,
    publish_artifact,
    sidecar_of,
)
from keys import Pair, make_pair
from releases import DESKTOP, ORIN, make_release, publish_engine, sign_file

from enginery.cli_arguments import parser
from enginery.corpus_schema import shipped as shipped_schema
from enginery.digest import sha256_file
from enginery.envelope import read_envelope
from enginery.release import FILE_NAME
from enginery.signing import envelope_path
from enginery.store.layout import LocalStore
from enginery.version import __version__

COMMANDS = ("init", "verify", "install", "rollback", "schema", "worker", "completion")

VIT, RESNET = ORIN.format("vit"), ORIN.format("+res+net++")


@dataclass(frozen=True)
class Call:
    """What one call of the command did and said."""

    code: int
    out: str
    err: str


def call(*arguments: object, program: tuple[str, ...] = ("-m", "enginery")) -> Call:
    done = subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Call(done.returncode, done.stdout, done.stderr)


def fails(code: int, *arguments: object) -> str:
    """The one line that a call fails with."""
    done = call(*arguments)
    assert done.code == code, (done.code, done.err)
    assert done.err.startswith("ERROR: "), done.err
    assert done.err.count("\n") == 1, done.err
    return done.err


@pytest.fixture
def team(tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "keys")


@pytest.fixture
def stranger(tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "keys", name="stranger")


@pytest.fixture
def shipped(tmp_path: Path, team: Pair) -> Path:
    """A release, signed, in a folder."""
    folder = tmp_path / "shipped"
    make_release(folder, signed_by=team)
    return folder


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "device"


def installed(device: Path) -> set[str]:
    return {path.name for path in (device / "current").glob("*.engine")}


def as_layout(shipped: Path, layout: Path) -> Path:
    """The same release as an OCI image layout with release.json beside it."""
    store = LocalStore(layout)
    for engine in shipped.glob("*.engine"):
        store.add(
            engine, sha256_hex=sha256_file(engine), document=provenance_of(engine).read_bytes(),
            envelope=read_envelope(engine), name=engine.name, annotations={},
        )  # fmt: skip
    for file in shipped.glob(f"{FILE_NAME}*"):
        shutil.copy(file, layout / file.name)
    return layout


# --- the command itself


@pytest.mark.parametrize("program", [("-m", "enginery"), ("script",)])
def test_version(program: tuple[str, ...]) -> None:
    if program == ("script",):
        script = Path(sys.executable).with_name("enginery")
        if not script.exists():
            pytest.skip("the package is not installed with its script")
        program = (str(script),)
    done = call("--version", program=program)
    assert (done.code, done.out, done.err) == (0, f"enginery {__version__}\n", "")


def test_help() -> None:
    """Every command is there with what it does, on a line of 80 columns, and has an example."""
    done = call("--help")
    assert done.code == 0
    assert set(re.findall(r"^    (\w+)  +\w", done.out, re.M)) == set(COMMANDS)
    for text in (done.out, *(call(command, "--help").out for command in COMMANDS)):
        body, _, example = text.partition("\nexample: ")
        assert re.match(r"enginery \w+|eval .*enginery completion", example)
        assert max(map(len, body.splitlines())) <= 80, body
        # A service has more options than what a person types.
        assert len(text.splitlines()) <= (40 if "worker" in body.splitlines()[0] else 26)
    for command in ("verify", "install", "rollback"):
        assert "--key" in call(command, "--help").out


def test_examples_are_understood() -> None:
    """What --help gives as an example is taken by the parser."""
    for command in COMMANDS:
        (example,) = re.findall(r"^example: (.*)$", call(command, "--help").out, re.M)
        words = re.sub(r'^eval "\$\((.*)\)"$', r"\1", example).partition(" > ")[0].split()
        asked = parser().parse_args(words[1:])
        assert (words[0], asked.command) == ("enginery", command)


def test_nothing_asked() -> None:
    done = call()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: enginery")
    assert done.err.splitlines()[-1] == (
        "ERROR: a command is missing; to start a corpus here: enginery init"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("verfy", "enginery: there is no command 'verfy'; did you mean 'verify'?"),
        ("INIT x", "enginery: there is no command 'INIT'; did you mean 'init'?"),
        (
            "nosuch",
            (
                "enginery: there is no command 'nosuch'; known are init, verify, install, rollback, "
                "schema, worker, completion"
            ),
        ),
        ("--verison", "enginery: there is no option '--verison'; did you mean '--version'?"),
        ("verify", "enginery verify: the following arguments are required: folder"),
        ("verify . --kye=x", "enginery verify: there is no option '--kye'; did you mean '--key'?"),
        (
            "verify . -k",
            (
                "enginery verify: there is no option '-k'; known are -h, --help, --quiet, --rebuild, "
                "--corpus, --key"
            ),
        ),
        # What is misspelt goes before what is missing for it.
        (
            "install x --trget y --into z",
            "enginery install: there is no option '--trget'; did you mean '--target'?",
        ),
        ("install x", "enginery install: the following arguments are required: --target, --into"),
        ("rollback", "enginery rollback: the following arguments are required: --into"),
        ("rollback --into", "enginery rollback: argument --into: expected one argument"),
        ("rollback --in x --into y extra", "enginery: unrecognized arguments: extra"),
        (
            "completion basj",
            (
                "enginery completion: argument {bash,zsh,tcsh}: there is no shell 'basj'; "
                "did you mean 'bash'?"
            ),
        ),
    ],
)
def test_wrong_arguments(arguments: str, said: str) -> None:
    program = said.partition(":")[0]
    assert fails(2, *arguments.split()) == f"ERROR: {said}; see {program} --help\n"


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "--qui", "x"],
        ["verify", "--", "--kye"],
        ["verify", "x", "--key=-k.pem"],
        ["verify", "-"],
        ["verify", "-1"],
    ],
)
def test_what_is_no_misspelt_option(words: list[str]) -> None:
    assert parser().parse_args(words).command == "verify"


def test_schema() -> None:
    done = call("schema")
    assert (done.code, done.err) == (0, "")
    assert done.out.encode() == shipped_schema()


COMPLETE = """\
eval "$("$1" -m enginery completion bash)" || exit 9
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMPREPLY=()
compopt() { :; }
_shtab_enginery enginery "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["ve"], {"verify"}),
        ([""], {"init", "verify", "install", "rollback", "schema", "worker", "completion"}),
        (["--ver"], {"--version"}),
        (["install", "--ta"], {"--target"}),
        (["verify", "--q"], {"--quiet"}),
        (["completion", ""], {"bash", "zsh", "tcsh"}),
        (["init", "mod"], {"models", "models.txt"}),
        (["verify", ".", "--key", "te"], {"team.pem"}),
        (["install", "x", "--from", "te"], {"team.pem"}),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], completed: set[str]) -> None:
    """A bash does it: reads what is printed and calls the function that it registers."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models.txt").touch()
    (tmp_path / "team.pem").touch()
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", sys.executable, "enginery", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_of_each_shell(shell: str) -> None:
    done = call("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert {"rollback", "insecure"} <= set(re.findall(r"\w+", done.out))
    if shell == "bash":
        checked = subprocess.run(
            ["bash", "-n"], input=done.out, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_nothing_needless_is_loaded(shipped: Path, device: Path, team: Pair) -> None:
    """A device has no doit, onnx or compiler, and no urllib3 where a folder was copied."""
    program = """\
import sys
from enginery.cli import main
codes = [
    main(["verify", sys.argv[1], "--key", sys.argv[3]]),
    main(["install", sys.argv[1], "--target", "orin", "--into", sys.argv[2], "--key", sys.argv[3]]),
    main(["verify", sys.argv[2] + "/current", "--key", sys.argv[3]]),
]
print(codes)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
print(*sorted(name for name in sys.modules if name.startswith("enginery.")))
"""
    done = call(shipped, device, team.public, program=("-c", program))
    codes, roots, ours = done.out.splitlines()[-3:]
    assert codes == "[0, 0, 0]"
    # securesystemslib loads cryptography where it is installed; the next test does without it.
    needless = {"doit", "numpy", "onnx", "onnxruntime", "polygraphy", "tensorrt_rtx", "urllib3"}
    assert needless.intersection(roots.split()) == set()
    builders = {"accuracy", "audit", "calibration", "compiler", "corpus", "doit", "lowering"}
    builders |= {"probing", "runtimes", "worker", "jobs"}
    assert {f"enginery.{name}" for name in builders}.intersection(ours.split()) == set()


def test_it_works_without_them(shipped: Path, device: Path, tmp_path: Path) -> None:
    """Where these packages are not even installed."""
    for name in ("doit", "onnx", "numpy", "onnxruntime", "polygraphy", "urllib3", "cryptography"):
        (tmp_path / "blocked" / name).mkdir(parents=True)
        (tmp_path / "blocked" / name / "__init__.py").write_text("raise ImportError('not there')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "blocked"))
        assert call("verify", shipped).code == 0
        assert call("install", shipped, "--target", "orin", "--into", device).code == 0
        assert call("install", shipped, "--target", "desktop", "--into", device).code == 0
        assert call("rollback", "--into", device).code == 0


# --- verify


def test_a_good_folder(shipped: Path) -> None:
    done = call("verify", shipped)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[-1] == "6 good, 0 wrong"
    assert len(lines) == 7
    assert all(line.startswith("good") for line in lines[:-1])


def test_quiet(shipped: Path) -> None:
    assert call("verify", shipped, "--quiet").out == "6 good, 0 wrong\n"
    flip_bit(shipped / VIT, 100)
    lines = call("verify", "--quiet", shipped).out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"damaged    {VIT}: ")
    assert lines[1] == "5 good, 1 wrong"


def test_what_is_foreign_is_shown_and_is_not_wrong(shipped: Path) -> None:
    (shipped / "notes.txt").write_text("mine")
    done = call("verify", shipped)
    assert done.code == 0
    assert "notes.txt" in done.out
    assert "notes.txt" not in call("verify", "--quiet", shipped).out


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda path: flip_bit(path, 77), "damaged"),
        (lambda path: path.unlink(), "absent"),
        (lambda path: sidecar_of(path).unlink(), "sidecar"),
        (lambda path: sidecar_of(path).write_text("garbage"), "sidecar"),
        (lambda path: provenance_of(path).unlink(), "provenance"),
        (lambda path: provenance_of(path).write_text("{}"), "provenance"),
        (lambda path: path.write_bytes(b""), "damaged"),
    ],
)
def test_what_is_wrong(shipped: Path, spoil: object, word: str) -> None:
    spoil(shipped / VIT)  # type: ignore[operator]
    done = call("verify", shipped)
    assert done.code == 1
    assert re.search(rf"^{word} +{re.escape(VIT)}: ", done.out, re.M), done.out
    assert done.out.endswith("5 good, 1 wrong\n")


def test_signatures(shipped: Path, team: Pair, stranger: Pair) -> None:
    assert call("verify", shipped, "--key", team.public).code == 0
    done = call("verify", shipped, "--key", stranger.public)
    assert done.code == 1
    assert done.out.endswith("0 good, 6 wrong\n")
    assert call("verify", shipped, "--key", stranger.public, "--key", team.public).code == 0
    envelope_path(shipped / VIT).unlink()
    done = call("verify", shipped, "--key", team.public)
    assert done.code == 1
    assert "is not signed" in done.out
    assert call("verify", shipped).code == 0


def test_a_forged_engine_with_right_sidecars(shipped: Path, team: Pair) -> None:
    """Everything fits, but for the signature."""
    envelope = envelope_path(shipped / VIT).read_bytes()
    recipe = make_recipe()
    publish_artifact(shipped, name=VIT, data=b"forged", recipe=recipe)
    assert call("verify", shipped).code == 0
    done = call("verify", shipped, "--key", team.public)
    assert done.code == 1
    assert re.search(rf"^signature +{re.escape(VIT)}: ", done.out, re.M)
    envelope_path(shipped / VIT).write_bytes(envelope)
    assert call("verify", shipped, "--key", team.public).code == 1


def test_another_key_that_cannot_be_used(shipped: Path, team: Pair, tmp_path: Path) -> None:
    assert "nowhere.pem is not there" in fails(2, "verify", shipped, "--key", "nowhere.pem")
    assert "is a private key" in fails(2, "verify", shipped, "--key", team.private)
    rsa = make_pair(tmp_path / "keys", "rsa", name="rsa")
    assert "use Ed25519 or P-256" in fails(2, "verify", shipped, "--key", rsa.public)


def test_no_folder(tmp_path: Path, shipped: Path) -> None:
    assert "nowhere cannot be read" in fails(2, "verify", tmp_path / "nowhere")
    fails(2, "verify", shipped / VIT)


def test_an_empty_folder(tmp_path: Path) -> None:
    done = call("verify", tmp_path)
    assert (done.code, done.out) == (0, "0 good, 0 wrong\n")


def test_a_reader_that_goes_away(shipped: Path) -> None:
    """`enginery verify DIR | head -1` is no failure."""
    with subprocess.Popen(
        [sys.executable, "-m", "enginery", "verify", str(shipped)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read().decode()
        process.wait(60)
    assert "Traceback" not in said
    assert "BrokenPipeError" not in said, said


def test_a_full_device_for_output(shipped: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "enginery", "verify", str(shipped)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["schema", "verify"])
def test_a_full_device_is_named(shipped: Path, command: str) -> None:
    """The schema is larger than what Python holds back, a few lines are less."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    arguments = [str(shipped)] if command == "verify" else []
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "enginery", command, *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "ERROR: standard output: No space left on device\n"


def test_a_closed_standard_output(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    onnx_models.write_small(tmp_path / "new" / "model.onnx", seed=1)
    shell = f"exec {shlex.quote(sys.executable)} -m enginery"
    for command in ("schema >&-", f"init {shlex.quote(str(tmp_path / 'new'))} >&-"):
        done = subprocess.run(
            ["sh", "-c", f"{shell} {command}"],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "new" / "dodo.py").exists()


def test_a_closed_standard_error(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {shlex.quote(sys.executable)} -m enginery verify nowhere >&- 2>&-"],
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2


# --- install and rollback


def test_install_from_a_folder(shipped: Path, device: Path) -> None:
    done = call("install", shipped, "--target", "orin", "--into", device)
    assert (done.code, done.err) == (0, "")
    digest = json.loads(json.dumps(sha256_file(shipped / FILE_NAME)))[:12]
    assert done.out == (
        f"2 engines for orin in {device / 'current'}, 2 of them new, release {digest}\n"
    )
    assert installed(device) == {VIT, RESNET}
    assert call("verify", device / "current").out.endswith("2 good, 0 wrong\n")
    again = call("install", shipped, "--target", "orin", "--into", device)
    assert "0 of them new" in again.out


def test_install_from_the_file(shipped: Path, device: Path) -> None:
    done = call("install", shipped / FILE_NAME, "--target", "desktop", "--into", device)
    assert done.code == 0
    assert installed(device) == {DESKTOP.format("vit"), DESKTOP.format("+res+net++")}


def test_install_from_another_folder(shipped: Path, device: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(shipped / FILE_NAME, alone)
    done = call("install", alone, "--from", shipped, "--target", "orin", "--into", device)
    assert done.code == 0
    assert installed(device) == {VIT, RESNET}


def test_install_from_a_layout(shipped: Path, device: Path, tmp_path: Path, team: Pair) -> None:
    layout = as_layout(shipped, tmp_path / "layout")
    done = call("install", layout, "--target", "orin", "--into", device, "--key", team.public)
    assert (done.code, done.err) == (0, "")
    assert call("verify", device / "current", "--key", team.public).code == 0
    other = tmp_path / "other"
    done = call(
        "install", shipped / FILE_NAME, "--from", layout, "--target", "orin", "--into", other
    )
    assert done.code == 0


def test_install_of_a_wrong_target(shipped: Path, device: Path) -> None:
    said = fails(2, "install", shipped, "--target", "thor", "--into", device)
    assert "no target 'thor'; it has desktop, orin, server" in said
    said = fails(2, "install", shipped, "--target", "Orim", "--into", device)
    assert "no target 'Orim'; did you mean 'orin'?; it has desktop, orin, server" in said
    assert not device.exists() or not list(device.iterdir())


def test_install_of_nothing(tmp_path: Path, device: Path) -> None:
    assert "no release" in fails(2, "install", tmp_path, "--target", "orin", "--into", device)
    (tmp_path / FILE_NAME).write_text("{}")
    assert "malformed" in fails(2, "install", tmp_path, "--target", "orin", "--into", device)


def test_install_from_nowhere(shipped: Path, device: Path) -> None:
    arguments = ("install", shipped, "--target", "orin", "--into", device)
    said = fails(2, *arguments, "--from", "./nowhere")
    assert "nowhere" in said
    assert not installed(device)
    said = fails(2, *arguments, "--from", "127.0.0.1:9/team/engines")
    assert "127.0.0.1:9/team/engines" in said
    assert not installed(device)


@pytest.mark.parametrize("how", ["damaged", "gone", "swapped"])
def test_install_of_what_is_not_whole(shipped: Path, device: Path, how: str) -> None:
    call("install", shipped, "--target", "desktop", "--into", device)
    before = (device / "current").readlink()
    if how == "damaged":
        flip_bit(shipped / VIT, 5)
    elif how == "gone":
        (shipped / VIT).unlink()
    else:
        publish_engine(shipped, "orin", "vit", version=2)
    said = fails(2 if how == "gone" else 1, "install", shipped, "--target", "orin", "--into", device)  # fmt: skip
    assert VIT in said
    assert (device / "current").readlink() == before


def test_install_with_keys(shipped: Path, device: Path, team: Pair, stranger: Pair) -> None:
    arguments = ("install", shipped, "--target", "orin", "--into", device)
    assert "signed by no key" in fails(1, *arguments, "--key", stranger.public)
    assert not (device / "current").exists()
    assert call(*arguments, "--key", team.public).code == 0
    envelope_path(shipped / FILE_NAME).unlink()
    assert "not signed" in fails(1, *arguments, "--key", team.public)
    sign_file(shipped / FILE_NAME, shipped / FILE_NAME, team)  # as a provenance
    assert "application/vnd.in-toto+json" in fails(1, *arguments, "--key", team.public)


def test_rollback(shipped: Path, device: Path, tmp_path: Path, team: Pair, stranger: Pair) -> None:
    assert "no release is installed" in fails(2, "rollback", "--into", device)
    call("install", shipped, "--target", "orin", "--into", device)
    assert "no release before" in fails(2, "rollback", "--into", device)
    first = (device / "current").readlink()
    make_release(tmp_path / "new", versions={"vit": 2}, signed_by=stranger)
    call("install", tmp_path / "new", "--target", "orin", "--into", device)
    second = (device / "current").readlink()
    assert first != second
    assert "signed by no key" in fails(1, "rollback", "--into", device, "--key", stranger.public)
    assert (device / "current").readlink() == second
    done = call("rollback", "--into", device, "--key", team.public)
    assert done.code == 0
    assert done.out.startswith(f"2 engines for orin in {device / 'current'}, release ")
    assert (device / "current").readlink() == first


def test_rollback_to_what_is_damaged(shipped: Path, device: Path, tmp_path: Path) -> None:
    call("install", shipped, "--target", "orin", "--into", device)
    make_release(tmp_path / "new", versions={"vit": 2})
    call("install", tmp_path / "new", "--target", "orin", "--into", device)
    flip_bit(device / "previous" / VIT, 8)
    before = (device / "current").readlink()
    assert VIT in fails(1, "rollback", "--into", device)
    assert (device / "current").readlink() == before


def test_a_file_in_the_place_of_the_device(shipped: Path, device: Path) -> None:
    device.write_text("mine")
    fails(2, "install", shipped, "--target", "orin", "--into", device)
    fails(2, "rollback", "--into", device)
    assert device.read_text() == "mine"


def test_a_document_of_another_engine(shipped: Path, device: Path) -> None:
    """The provenance of one engine beside another: refused, and said which."""
    other = make_document(shipped / VIT, (shipped / VIT).read_bytes(), make_recipe())
    provenance_of(shipped / VIT).write_bytes(other)
    assert VIT in fails(1, "install", shipped, "--target", "orin", "--into", device)


def test_names_with_newlines_stay_on_one_line(tmp_path: Path) -> None:
    if os.name != "posix":
        pytest.skip("no such names here")
    (tmp_path / "a\nb.engine").write_text("x")
    done = call("verify", tmp_path)
    assert done.code == 1
    assert len(done.out.splitlines()) == 2, done.out
