"""Settings: sources and their order, and one clear line for whatever is wrong with them."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from unchained.node.base import config
from unchained.node.base.config import (
    Config,
    Key,
    commented_file,
    declared_keys,
    documentation,
    toml_value,
)
from unchained.node.base.settings import (
    BadDataDirectoryError,
    BadFileError,
    BadValueError,
    ConfigError,
    SettingOrigin,
    Settings,
    UnknownKeyError,
    check,
    load,
    prepare_data_dir,
    write_file,
)

ROOT = Path(__file__).parents[3]


def settings(
    home: Path,
    text: str | None = None,
    env: Mapping[str, str] | None = None,
    **flags: tuple[str, object],
) -> Settings:
    """Load with an optional settings file named by the user; flags as section__key."""
    file = None
    if text is not None:
        file = home / "my.toml"
        file.write_text(text)
    given = {name.replace("__", "."): value for name, value in flags.items()}
    return load(given, env or {}, home=home, file=file)


def test_without_any_source_all_is_default(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert found.config == Config()
    assert {origin.text for origin in found.origins.values()} == {"default"}
    assert found.data_dir == tmp_path / ".unchained" / "local"
    assert found.file == found.data_dir / "config.toml"


def test_later_sources_override_earlier_ones_and_each_value_knows_its_own(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        "[mining]\nworkers = 2\nnice = 3\n\n[storage]\ncache_mib = 64\n",
        {"UNCHAINED_MINING__WORKERS": "3", "UNCHAINED_MINING__NICE": "4"},
        mining__workers=("--workers", "5"),
    )
    assert found.config.mining.workers == 5
    assert found.config.mining.nice == 4
    assert found.config.storage.cache_mib == 64
    assert found.origins["mining.workers"].text == "--workers"
    assert found.origins["mining.nice"].text == "environment variable UNCHAINED_MINING__NICE"
    assert found.origins["storage.cache_mib"].text == f"{tmp_path / 'my.toml'}:6"
    assert found.origins["rpc.listen"].text == "default"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("mining.nice = 99", 1),
        ("# nice\n[node]\nlog_files = 3\n[mining] # nice = 1\n  'nice'=99", 5),
        ("[mining]\nnice = 99 # too nice", 2),
        ("mining = {nice = 99}", 1),
    ],
)
def test_a_bad_value_in_a_file_is_reported_with_its_line(
    tmp_path: Path, text: str, line: int
) -> None:
    with pytest.raises(BadValueError) as caught:
        settings(tmp_path, text)
    assert str(caught.value) == (
        f"mining.nice = 99 ({tmp_path / 'my.toml'}:{line}): expected a whole number from 0 to 19"
    )
    assert caught.value.key == "mining.nice"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("MINING__WORKERS", "0", 'expected a whole number from 1 to 1024 or "auto"'),
        ("MINING__WORKERS", "many", 'expected a whole number from 1 to 1024 or "auto"'),
        ("MINING__ENABLED", "maybe", "expected true or false"),
        ("MINING__AFFINITY", "0,x", "expected a list, each a whole number from 0 to 4095"),
        (
            "NODE__NETWORK",
            "mian",
            'or "reg" or "test"; did you mean "main"',
        ),
        ("NODE__NETWORK", "Main", 'did you mean "main"'),
        ("NODE__NETWORK", "regtest", 'did you mean "reg"'),
        ("NODE__NETWORK", "moon", 'expected "local" or "main" or "reg" or "test"$'),
        ("MINING__WORKERS", "atuo", 'or "auto"; did you mean "auto"'),
        ("NETWORK__ONLY", "ipv4,onoin", 'did you mean "onion"'),
        ("RPC__LISTEN", "8645", "expected a HOST:PORT"),
        ("NETWORK__LISTEN", "4001", "expected a list, each a multiaddress"),
    ],
)
def test_a_bad_value_in_the_environment_is_reported(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(BadValueError, match=message) as caught:
        settings(tmp_path, env={f"UNCHAINED_{name}": text})
    assert f"(environment variable UNCHAINED_{name})" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_texts_become_what_their_keys_take(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        env={
            "UNCHAINED_MINING__ENABLED": "false",
            "UNCHAINED_MINING__WORKERS": "auto",
            "UNCHAINED_MINING__AFFINITY": "0, 2",
            "UNCHAINED_NETWORK__BOOTSTRAP": "/ip4/10.0.0.1/tcp/1,/dns4/b/tcp/2",
            "UNCHAINED_POW_BACKEND": "not a setting",
        },
    )
    assert found.config.mining == config.MiningConfig(enabled=False, affinity=(0, 2))
    assert found.config.network.bootstrap == ("/ip4/10.0.0.1/tcp/1", "/dns4/b/tcp/2")


def test_an_unknown_key_names_the_nearest_known_one(tmp_path: Path) -> None:
    cases: list[tuple[str | None, dict[str, str], str]] = [
        ("[mining]\nworker = 1\n", {}, "mining.workers"),
        ("[node]\nworkers = 1\n", {}, "mining.workers"),
        ("[minning]\nworkers = 1\n", {}, "mining"),
        ("workers = 1\n", {}, "mining.workers"),
        (None, {"UNCHAINED_STORAGE__CACHE": "1"}, "storage.cache_mib"),
    ]
    for text, env, nearest in cases:
        with pytest.raises(UnknownKeyError, match=f'nearest known: "{nearest}"') as caught:
            settings(tmp_path, text, env)
        assert caught.value.nearest == nearest
    with pytest.raises(UnknownKeyError, match=r'unknown setting "mining.size" \(--set\)'):
        settings(tmp_path, mining__size=("--set", "1"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[mining\n", "is not valid TOML: .*line 1"),
        (b"\xff", "is not text in UTF-8"),
        (b"mining = 3\n", r"mining is a section: write \[mining\] above its keys"),
        (None, "no such file"),
        (b"a = " + b"[" * 100_000, "brackets are nested too deep"),
        (b"#" * (1 << 21), "is longer than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "my.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises((BadFileError, UnknownKeyError), match=problem):
        load({}, {}, home=tmp_path, file=file)
    with pytest.raises(BadFileError, match="cannot be read"):
        load({}, {}, home=tmp_path, file=tmp_path)


def test_the_file_is_looked_for_in_the_data_directory(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "config.toml").write_text('[node]\nnetwork = "reg"\n')
    found = load({"node.data_dir": ("--data-dir", str(directory))}, {}, home=tmp_path)
    assert found.config.node.network == "reg"
    assert found.data_dir == directory
    by_env = load({}, {"UNCHAINED_CONFIG": str(directory / "config.toml")}, home=tmp_path)
    assert by_env.data_dir == tmp_path / ".unchained" / "reg"
    unread = load({"node.data_dir": ("-", str(directory))}, {}, home=tmp_path, read_file=False)
    assert unread.config.node.network == "local"


@pytest.mark.parametrize("line", ['network = "test"', 'data_dir = "/elsewhere"'])
def test_a_file_in_a_data_directory_cannot_lead_to_another(tmp_path: Path, line: str) -> None:
    file = tmp_path / ".unchained" / "local" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f"[node]\n{line}\n")
    with pytest.raises(BadValueError, match="choose another by --network or --data-dir") as caught:
        settings(tmp_path)
    assert caught.value.key == f"node.{line.partition(' ')[0]}"
    assert f"{file}:2" in str(caught.value)


def test_a_fault_found_later_is_reported_like_one_found_here(tmp_path: Path) -> None:
    found = settings(tmp_path, mining__payout=("--payout", "lunc1x"))
    error = found.fault("mining.payout", "checksum does not fit")
    assert str(error) == 'mining.payout = "lunc1x" (--payout): checksum does not fit'


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    declared = declared_keys()["mining.nice"]
    key = Key("rpc.secret", declared.kind, declared.declared, 0, "", secret=True)
    with pytest.raises(BadValueError) as caught:
        check(key, "hunter2", SettingOrigin("--set"), from_text=True)
    assert "hunter2" not in str(caught.value)
    assert "***" in str(caught.value)


def test_the_commented_file_says_all_and_sets_nothing(tmp_path: Path) -> None:
    text = commented_file()
    assert all(not values for values in tomllib.loads(text).values())
    # With the comment signs of its settings removed it sets every key to its default.
    bare = "\n".join(
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
        for line in text.splitlines()
    )
    found = settings(tmp_path, bare)
    assert msgspec.structs.replace(found.config) == Config()
    assert "default" not in {origin.text for origin in found.origins.values()}


def test_the_documentation_is_made_from_the_declarations() -> None:
    assert documentation() in (ROOT / "docs/configuration.md").read_text()
    for key in declared_keys().values():
        assert key.description.endswith((".", "!")), key.name


def test_the_settings_file_is_written_once(tmp_path: Path) -> None:
    file = tmp_path / "a" / "config.toml"
    write_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("[mining]\nnice = 1\n")
    with pytest.raises(BadFileError, match="exists; --force replaces it"):
        write_file(file)
    write_file(file, force=True)
    assert file.read_text() == commented_file()
    with pytest.raises(BadFileError, match="its directory is a file"):
        write_file(file / "below")
    with pytest.raises(BadFileError, match="cannot be written: Not a directory"):
        write_file(file / "far" / "below")


def test_the_data_directory_is_private(tmp_path: Path) -> None:
    made = prepare_data_dir(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    for names, mode in (((), 0o700), (("config.toml",), 0o700), (("letters",), 0o755)):
        directory = tmp_path / f"found-{'-'.join(names)}"
        directory.mkdir(mode=0o755)
        for name in names:
            (directory / name).touch()
        prepare_data_dir(directory)
        assert stat.S_IMODE(directory.stat().st_mode) == mode


def test_a_data_directory_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BadDataDirectoryError, match="is a file, expected a directory"):
        prepare_data_dir(file)
    with pytest.raises(BadDataDirectoryError, match="cannot be made: Not a directory"):
        prepare_data_dir(file / "below")
    with pytest.raises(ConfigError, match="data directory /proc/unchained: cannot be made"):
        prepare_data_dir(Path("/proc/unchained"))


def test_values_are_written_as_toml_reads_them() -> None:
    for value in (True, 3, 'a "quoted" \\ text', ["a", 1], ()):
        read = tomllib.loads(f"x = {toml_value(value)}")["x"]
        assert read == (list(value) if isinstance(value, tuple) else value)
    assert os.linesep not in toml_value("two\nlines")
