"""The command line: every outcome has its exit code, and every error is one line."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.framework.processes import NodeHome, NodeProcess
from unchained.node.base.services import SAME_SIGNAL_S
from unchained.node.base.vocabulary import RENAMINGS, Named, Renaming
from unchained.node.cli import doctor, main, process
from unchained.node.consensus.params import REG
from unchained.node.rpc.core.openrpc import Discovery
from unchained.node.rpc.core.registry import Registry
from unchained.node.rpc.methods.rooms import ROOMS
from unchained.storage.open import STORE_NAME, open_store

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in os.environ:
        if name.startswith("UNCHAINED_"):
            monkeypatch.delenv(name)


def test_the_version_is_shown_to_people_and_programs(capsys: Capture) -> None:
    known = importlib.metadata.version("unchained")
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"{known}\n"
    assert main.run(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"unchained {known}\npython 3.")
    assert main.run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unchained"] == known


def test_help_is_given_for_every_command(capsys: Capture) -> None:
    for arguments in ([], ["config"], ["config", "init"], ["config", "show"], ["config", "path"]):
        assert main.run([*arguments, "--help"]) == 0
        assert "Usage: unchained-node" in capsys.readouterr().out
    for group in ([], ["config"], ["wallet"], ["wallet", "contract"]):
        assert main.run(group) == main.WRONG_USE
        assert capsys.readouterr().out.startswith(" ".join(["Usage: unchained-node", *group]))


def test_help_is_a_word_too(capsys: Capture) -> None:
    for words in ([], ["wallet"], ["wallet", "send"]):
        assert main.run([*words, "--help"]) == 0
        asked = capsys.readouterr().out
        assert main.run(["help", *words]) == 0
        assert capsys.readouterr().out == asked


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["frob"], "No such command 'frob' (see unchained-node --help)"),
        (["config", "show", "--nope"], "(see unchained-node config show --help)"),
        (["config", "show", "--set", "x"], '"x" given, expected SECTION.KEY=VALUE'),
        (["config", "show", "--set", "mining.workers=0"], "expected a whole number from 1"),
        (["config", "show", "--set", "mining.worker=1"], 'nearest known: "mining.workers"'),
        (["config", "show", "--set", "foo=1"], "(--set); `config show` lists all"),
        (["config", "show", "--config", "/none"], "/none: no such file"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: Capture
) -> None:
    assert main.run(arguments) == main.WRONG_USE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("unchained-node: ")
    assert line in captured.err
    assert captured.err.count("\n") == 1


def test_an_unexpected_error_is_one_line_too(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, line in [
        (ZeroDivisionError("by zero"), "internal error: ZeroDivisionError: by zero"),
        (OSError("pipe"), "pipe"),
        (OSError(28, "No space left on device", "/x"), "/x: No space left on device"),
        (KeyboardInterrupt(), "interrupted"),
    ]:

        def fail(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("unchained.node.cli.config.settings_from", fail)
        monkeypatch.setattr("unchained.node.cli.config.write_file", fail)
        assert main.run(["config", "init"]) == main.FAILED
        assert capsys.readouterr().err == f"unchained-node: {line}\n"


def test_a_settings_file_is_written_found_and_shown(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / ".unchained" / "reg" / "config.toml"
    assert main.run(["config", "init", "--network", "reg"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert main.run(["config", "init", "--network", "reg"]) == main.WRONG_USE
    assert "exists; --force replaces it" in capsys.readouterr().err
    file.write_text("[mining]\nnice = 7\n")
    assert main.run(["config", "path", "--network", "reg"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert main.run(["config", "show", "--network", "reg", "--set", "rpc.listen=[::1]:80"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert f"mining.nice = 7  # {file}:2" in shown
    assert 'rpc.listen = "[::1]:80"  # --set' in shown
    assert 'node.network = "reg"  # --network' in shown
    assert main.run(["config", "show", "--network", "reg", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"key": "mining.nice", "value": 7, "origin": f"{file}:2"} in lines
    assert main.run(["config", "init", "--network", "reg", "--force"]) == 0


def test_a_new_key_is_for_the_network_of_the_data_directory(
    capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text('[node]\nnetwork = "reg"\n')
    assert main.run(["key", "new", "--data-dir", str(tmp_path)]) == 0
    assert "network reg\n" in capsys.readouterr().out


def test_the_shell_completes_commands(home: NodeHome) -> None:
    asked = {"_UNCHAINED_NODE_COMPLETE": "complete_bash", "COMP_WORDS": "unchained-node versi"}
    done = home.run(env=asked | {"COMP_CWORD": "1"})
    assert done.stdout.split() == ["version"]


SCRIPT = """
import sys, trio
from pathlib import Path
from unchained.node.cli.process import run_node
from unchained.node.base.settings import load

async def quiet(*, task_status):
    task_status.started()
    await trio.sleep_forever()

async def stubborn(*, task_status):
    task_status.started()
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

async def broken(*, task_status):
    raise KeyError("tip")

async def switching(*, task_status):
    raise ValueError(f"a thread keeps the interpreter for {sys.getswitchinterval():g} s")

async def expected(*, task_status):
    raise ValueError("the store is of network main, expected local")

async def asking(*, task_status):
    task_status.started()
    stop("enough")
    await trio.sleep_forever()

async def compose(process):
    global stop
    stop = process.request_stop
    from unchained.node.base.services import Service
    return [Service(sys.argv[2], globals()[sys.argv[2]])]

flags = {"node.data_dir": ("--data-dir", sys.argv[1])}
settings = load(flags, {}, home=Path("/"))
sys.exit(run_node(settings, compose, expected=(ValueError,), json=True))
"""


def start(home: NodeHome, service: str) -> NodeProcess:
    return home.start("-c", SCRIPT, str(home.data_dir()), service, program=[sys.executable])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_node_stops_as_asked_with_exit_code_0(home: NodeHome, number: int) -> None:
    node = start(home, "quiet")
    started = node.wait_event("node.started")
    assert started["data_dir"] == str(home.data_dir())
    assert started["pid"] == node.pid
    assert node.stop(number) == process.STOPPED
    # A busy machine may let the loop be reported as blocked.
    events = [event for event in node.events if not event["event"].startswith("loop.")]
    assert [event["event"] for event in events] == [
        "node.started",
        "node.stopping",
        "node.stopped",
    ]
    assert events[1]["reason"] == signal.Signals(number).name
    assert node.errors == []
    logged = (home.data_dir() / "node.log").read_text().splitlines()
    assert [json.loads(line)["event"] for line in logged][-1] == "node.stopped"


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(home: NodeHome) -> None:
    # nohup, and a shell's & for SIGINT
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    arguments = ("-c", f"{ignoring}\n{SCRIPT}", str(home.data_dir()), "quiet")
    node = home.start(*arguments, program=[sys.executable])
    node.wait_event("node.started")
    node.send(signal.SIGHUP)
    node.send(signal.SIGTERM)
    assert node.wait_event("node.stopping")["reason"] == "SIGTERM"
    assert node.wait() == process.STOPPED


def test_a_part_of_the_node_can_ask_for_the_stop(home: NodeHome) -> None:
    node = start(home, "asking")
    assert node.wait() == process.STOPPED
    assert node.wait_event("node.stopping")["reason"] == "enough"


def test_a_second_signal_ends_at_once_what_does_not_stop(home: NodeHome) -> None:
    node = start(home, "stubborn")
    node.wait_event("node.started")
    node.send(signal.SIGINT)
    node.wait_event("node.stopping")
    with pytest.raises(subprocess.TimeoutExpired):
        node.wait(SAME_SIGNAL_S)
    assert node.stop(signal.SIGINT) == process.FAILED
    assert node.wait_event("node.stopped")["error"] == "signal 2 again"


def test_a_failure_has_a_clear_last_line_and_its_traceback_in_the_log_file(home: NodeHome) -> None:
    node = start(home, "broken")
    assert node.wait() == process.FAILED
    log = home.data_dir() / "node.log"
    line = f"internal error in broken: KeyError: 'tip' (details: {log})"
    assert node.errors == [f"unchained-node: {line}"]
    assert node.events[-1]["event"] == "node.stopped"
    assert node.events[-1]["error"] == line
    assert not any("traceback" in event for event in node.events)
    assert "Traceback (most recent call last)" in log.read_text()


def test_an_expected_failure_is_reported_by_its_own_text(home: NodeHome) -> None:
    node = start(home, "expected")
    assert node.wait() == process.FAILED
    assert node.errors == ["unchained-node: the store is of network main, expected local"]


def test_worker_threads_give_the_interpreter_back_soon(home: NodeHome) -> None:
    node = start(home, "switching")
    assert node.wait() == process.FAILED
    assert node.errors == ["unchained-node: a thread keeps the interpreter for 0.001 s"]


def test_every_command_can_speak_json() -> None:
    def without(command: Any, path: str) -> Iterator[str]:
        for name in getattr(command, "commands", {}):
            yield from without(command.made(name), f"{path} {name}")
        options = {option for parameter in command.params for option in parameter.opts}
        if not hasattr(command, "commands") and "--json" not in options:
            yield path

    assert list(without(main.command_line(), main.PROGRAM)) == []


RUN_COMMAND = "import sys; from unchained.node.cli.main import main; main()"


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_command_runs_without_one_of_its_streams(tmp_path: Path, closed: int) -> None:
    done = subprocess.run(
        [
            *("/bin/sh", "-c", f'exec "$@" {closed}>&-', "sh"),
            *(sys.executable, "-c", RUN_COMMAND),
            *("wallet", "create", "--data-dir", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "internal error" not in done.stderr
    assert closed == 2 or len(done.stderr.splitlines()) == 1


COMMANDS_THAT_PRINT = [("--help",), ("--version",), ("version", "--json"), ("config", "show")]


@pytest.mark.parametrize("words", COMMANDS_THAT_PRINT)
def test_a_full_disk_under_what_is_printed_is_one_line(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", RUN_COMMAND, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "unchained-node: No space left on device\n")


@pytest.mark.parametrize("words", COMMANDS_THAT_PRINT)
def test_a_reader_that_has_enough_ends_a_command_without_a_word(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", RUN_COMMAND, *words],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def below(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, and the words that lead to it."""
    names = getattr(command, "commands", {})
    if not names:
        yield path, command
    for name in names:
        yield from below(command.made(name), (*path, name))


def takes_file(parameter: Any) -> bool:
    return "Path" in str(parameter.type_descriptor.annotation)


FILES = [
    (words, parameter)
    for words, command in below(main.command_line())
    for parameter in command.params
    # Those that ask a node find it in one way.
    if takes_file(parameter)
    or (
        parameter.name == "data_dir"
        and (words == ("status",) or all(other.name != "rpc" for other in command.params))
    )
]


def filled(command: Any, but: Any) -> list[str]:
    """Return something for each argument and option that a command cannot be without."""
    given = []
    for parameter in command.params:
        if parameter is but or not parameter.required:
            continue
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else None
        kind = str(parameter.type_descriptor.annotation)
        value = "/none/such" if "Path" in kind else "1" if "int" in kind else "x"
        given += [value] if name is None else [name, value]
    return given


@pytest.mark.parametrize(
    ("words", "parameter"), FILES, ids=[f"{' '.join(words)} {p.name}" for words, p in FILES]
)
def test_a_file_that_cannot_be_used_is_one_line(
    words: tuple[str, ...], parameter: Any, tmp_path: Path, capsys: Capture
) -> None:
    command = main.command_line()
    for word in words:
        command = command.made(word)
    file = tmp_path / "file"
    file.write_bytes(b"\xff\x00")
    long = "x" * 300
    is_option = parameter.opts[0].startswith("-")
    for bad in (tmp_path / "none", tmp_path, file / "below", tmp_path / long, file, "/dev/full"):
        if words in NEEDS_A_NODE_STARTED:
            continue
        given = filled(command, parameter)
        value = [parameter.opts[0], str(bad)] if is_option else [str(bad)]
        more = [] if parameter.name == "data_dir" else ["--data-dir", str(tmp_path / "data")]
        has_place = any(found.name == "data_dir" for found in command.params)
        code = main.run([*words, *value, *given, *(more if has_place else [])])
        said = capsys.readouterr().err
        lines = [line for line in said.splitlines() if not line.startswith("warning: ")]
        assert "internal error" not in said, (bad, said)
        # The doctor says where it says all else that something could not be looked at.
        done = (0, doctor.EXIT_UNKNOWN) if words == ("doctor",) else (0,)
        assert code in done or (code in (1, 2) and len(lines) == 1), (bad, code, said)


NEEDS_A_NODE_STARTED: set[tuple[str, ...]] = {("start",), ("miner",)}
"""They run until they are stopped where the file is right."""


def test_a_terminal_that_knows_few_letters_is_shown_the_others_escaped(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_COMMAND, "config", "path", "--data-dir", "/✓"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2713" in done.stdout


def test_an_account_without_a_home_is_told_to_name_a_data_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert main.run(["status"]) == 2
    assert "--data-dir" in capsys.readouterr().err
    assert main.run(["config", "path", "--data-dir", "/nowhere"]) == 0


def known_commands() -> dict[str, set[str]]:
    """Return every command that acts, by its words, and its flags."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, set[str]]]:
        if not hasattr(command, "commands"):
            flags = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}
            yield " ".join(words), flags
            return
        for name in command.commands:
            yield from walk(command.made(name), (*words, name))

    return dict(walk(main.command_line(), ()))


@pytest.mark.parametrize(
    "row",
    [row for row in RENAMINGS if row.named in (Named.COMMAND, Named.FLAG)],
    ids=lambda row: f"{row.where} {row.old}".strip(),
)
def test_an_old_name_leads_to_the_new_one(row: Renaming, capsys: Capture) -> None:
    known = known_commands()
    if row.named is Named.COMMAND:
        assert row.new in known
        assert row.old not in known
    else:
        assert row.new.split()[0] in known[row.where]
    assert main.run([*row.where.split(), *row.old.split(), "x"]) == main.WRONG_USE
    line = capsys.readouterr().err
    assert f'{row.named} "{row.old}" is called "{row.new}"' in line
    assert line.count("\n") == 1


WITHOUT_A_METHOD = {
    "bench pow",
    "chain import",
    "chain verify",
    "config init",
    "config password",
    "config path",
    "config show",
    "db check",
    "db reset",
    "db stats",
    "doctor",
    "id",
    "key new",
    "logs",
    "mine advise",
    "miner",
    "start",
    "verify-message",
    "verify-proof",
    "verify-receipt",
    "verify-reserve",
    "version",
}
"""Commands that ask no node."""

SHORT = {
    "dev mine": "mine.generate",
    "dev reorg": "chain.set_aside",
    "dev save": "chain.export",
    "node memory": "debug.memory",
    "node statistics": "debug.statistics",
    "node tasks": "debug.tasks",
    "node trace": "debug.trace",
    "peers": "net.peers",
    "rpc": "rpc.discover",
    "status": "node.status",
    "stop": "node.stop",
    "tasks": "debug.tasks",
}
"""Commands of everyday use, and of those who look after a node, and what they call."""


def test_a_command_is_called_as_its_method() -> None:
    methods = Registry(*ROOMS, Discovery)
    astray = []
    for command in known_commands().keys() - WITHOUT_A_METHOD:
        room, _, rest = command.partition(" ")
        method = f"{room}.{rest.replace(' ', '_').replace('-', '_')}"
        if SHORT.get(command, method) not in methods:
            astray.append(command)
    assert astray == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("wallet", "import-watch", "hot", "watch:abcd"), "argument: expected --file FILE"),
        (("wallet", "restore", "abandon"), "argument: expected --mnemonic-file FILE"),
        (("version", "abandon", "zoo"), "unexpected extra argument (see"),
    ],
)
def test_what_stands_where_nothing_belongs_is_not_said_again(
    capsys: Capture, words: tuple[str, ...], said: str
) -> None:
    assert main.run(list(words)) == main.WRONG_USE
    err = capsys.readouterr().err
    assert said in err
    assert words[-1] not in err.partition("(see")[0]


def test_a_negative_amount_is_called_that(capsys: Capture) -> None:
    assert main.run(["wallet", "send", "x", "-1"]) == main.WRONG_USE
    assert "-1 is no option, and no number here is below 0" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made_is_called_that(capsys: Capture) -> None:
    assert main.run(["start", "--data-dir", "/proc/none"]) != 0
    assert "cannot be made: No such file" in capsys.readouterr().err


def test_what_to_do_about_damage_is_said_of_the_directory_that_was_named(
    tmp_path: Path, capsys: Capture
) -> None:
    open_store(tmp_path, REG, create=True).close()
    (tmp_path / STORE_NAME / "CURRENT").unlink()
    place = f"--network reg --data-dir {tmp_path}"
    for command in ("db check", "db stats", "start --no-rpc"):
        assert main.run([*command.split(), *place.split()]) == main.FAILED
        assert f"db check --repair {place}`" in capsys.readouterr().err.splitlines()[-1]


def test_a_start_says_at_once_that_it_has_begun(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before what takes long to import, of which nothing comes here.
    monkeypatch.setitem(sys.modules, "unchained.node.app", None)
    where = ["--network", "reg", "--data-dir", str(tmp_path)]
    main.run(["start", *where])
    first = capsys.readouterr().err.splitlines()[0]
    assert first == f"starting a node of the network reg in {tmp_path}"
    main.run(["start", "--json", *where])
    assert capsys.readouterr().err.startswith("unchained-node: ")
    # What is wrong with a setting is one line still.
    assert main.run(["start", "--set", "rpc.user=ada", *where]) == main.WRONG_USE
    assert capsys.readouterr().err.count("\n") == 1
