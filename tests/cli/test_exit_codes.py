"""What a script learns from the exit code, and a person from the one message that comes with it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import auditkit
from auditkit.cli.declarations import Exit
from auditkit.cli.program import EXTRAS, choose_exit, run
from auditkit.errors import FormatUnknown, StoreDamaged, StoreIncomplete
from tests.cli.conftest import Store
from tests.cli.running import COMMAND, find_unprintable, run_cli, run_on_terminal


def find_segment(store: Store) -> Path:
    """The first sealed file."""
    return sorted(store.path.glob("events/*/*.parquet"))[0]


def test_a_sound_store_gives_0(store: Store) -> None:
    """The verdict is the first thing said; notes don't change the exit code, but with --strict they do."""
    shown = run_cli("integrity", *store.options)
    assert shown.code == Exit.SOUND
    assert shown.out.startswith("sound, its tail unanchored\n")
    document = json.loads(run_cli("integrity", "--format", "json", *store.options).out)
    assert (document["verdict"], document["exit_code"], document["findings"]) == ("ok", 0, [])
    assert run_cli("integrity", *store.options).out.startswith("sound\n"), "what was seen before vouches for its end"
    strict = run_cli("integrity", "--strict", *store.options)
    assert strict.code == (Exit.FINDINGS if document["notes"] else Exit.SOUND)
    assert run_cli("integrity", "--strict", "--no-pin", *store.options).code == Exit.FINDINGS


def test_a_deleted_journal_is_in_the_verdict_and_gives_0(store: Store) -> None:
    """What a crash would explain as well doesn't change the exit code, and the first line isn't plain."""
    with auditkit.AuditLogger(store.path, key_file=store.key, enable_rotation=False) as audit:
        writer = audit.log_event("lost").split(":")[0]
    [journal] = store.path.glob(f"journal/{writer}.*")
    journal.unlink()
    for arguments in (["integrity"], ["integrity", "--fast"]):
        shown = run_cli(*arguments, *store.options)
        assert shown.code == Exit.SOUND
        assert re.match("sound(, its tail unanchored)?, but ", shown.out)
        assert "a deleted journal" in shown.out.splitlines()[0]
    assert run_cli("integrity", "--strict", *store.options).code == Exit.FINDINGS
    document = json.loads(run_cli("integrity", "--format", "json", *store.options).out)
    assert document["notes"][0]["severity"] == "warning"


def test_a_changed_byte_gives_1_and_names_the_file(store: Store) -> None:
    """Somebody edits a sealed file: both modes find it and say where."""
    segment = find_segment(store)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    for arguments in (["integrity"], ["integrity", "--fast"]):
        shown = run_cli(*arguments, *store.options)
        assert shown.code == Exit.FINDINGS
        assert shown.out.startswith("NOT SOUND: ")
        assert segment.name in shown.out
        assert "tampered" in shown.out
    rows = run_cli("integrity", "--format", "csv", *store.options).out
    assert "tampered,finding," in rows


READERS = (
    ["stats"],
    ["query"],
    ["query", "--format", "json"],
    ["errors"],
    ["performance"],
    ["integrity"],
    ["integrity", "--fast"],
    ["export"],
    ["report", "daily", "--day", "2026-11-22"],
)
"""Every command that reads the partition of 2026-11-22, where `find_segment`'s file lies."""

SEALERS = (["seal"], ["rotate"])


@dataclass
class Shell:
    """Runs commands in this process, as what is asked here is the code and not how a process comes by it."""

    capture: pytest.CaptureFixture[str]

    def check(self, commands: Sequence[Sequence[str]], expected: Exit, options: Sequence[str]) -> list[str]:
        """Demand one exit code of all commands, and no traceback; gives what each said altogether."""
        said = []
        for command in commands:
            code = run([*command, *options])
            shown = self.capture.readouterr()
            assert (command, code) == (command, expected), shown.err
            assert "Traceback" not in shown.err
            said.append(shown.out + shown.err)
        return said


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in the folder where the store lies."""
    monkeypatch.chdir(tmp_path)
    return Shell(capsys)


def test_a_missing_partition_gives_3(store: Store, shell: Shell) -> None:
    """A day that isn't there may just not be mounted: nobody is accused, and nobody is given half an answer."""
    segment = find_segment(store)
    shutil.rmtree(segment.parent)
    for text in shell.check(READERS, Exit.INCOMPLETE, store.options):
        assert segment.name in text or "The check is incomplete" in text
    # Another day can be asked for as ever, and what is open can be sealed.
    day = ["--since", "2026-11-23", "--until", "2026-11-23"]
    shell.check([[*command, *day] for command in READERS[:-1]], Exit.SOUND, store.options)
    shell.check([["report", "daily"], *SEALERS], Exit.SOUND, store.options)


@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_a_damaged_partition_gives_1(store: Store, shell: Shell, damage: str) -> None:
    """A file that isn't what the ledger lists, or is gone from among its neighbours, is a finding for every command."""
    segment = find_segment(store)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data if damage == "changed" else data[:-1])
    if damage == "missing":
        segment.unlink()
    for text in shell.check(READERS, Exit.FINDINGS, store.options):
        assert segment.name in text or "the record isn't as it was written" in text


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "gone"])
def test_nothing_is_written_where_a_later_day_cant_be_read(store: Store, tmp_path: Path, gone: bool) -> None:
    """Not the beginning of a document either, which a pipe would take for the whole; without that day all is there."""
    segment = sorted(store.path.glob("events/date=2026-11-23/*.parquet"))[0]
    if gone:
        shutil.rmtree(segment.parent)
    else:
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
    formats = ("csv", "json", "jsonl", "parquet")
    commands = [["query", "--format", name] for name in ("json", "csv")] + [["export", "--format", f] for f in formats]
    commands += [["export", "--output", str(tmp_path / f"events.{name}")] for name in formats]
    commands += [["export", "--format", "csv", "--limit", "1"], ["query", "--format", "json", "--limit", "20"]]
    for command in commands:
        shown = run_cli(*command, *store.options)
        assert (command, shown.code, shown.out) == (command, Exit.INCOMPLETE if gone else Exit.FINDINGS, "")
        assert shown.err.count("error:") == 1
        assert segment.name in shown.err
    assert list(tmp_path.glob("*events.*")) == []
    sound = run_cli("query", "--format", "json", "--until", "2026-11-22", *store.options)
    assert (sound.code, len(json.loads(sound.out))) == (Exit.SOUND, 12)


def test_a_limit_reads_and_checks_only_what_it_needs(store: Store) -> None:
    """The newest events are right although an older day isn't; a table says that, and ends with the code of damage."""
    segment = find_segment(store)
    segment.write_bytes(segment.read_bytes()[:-1])
    newest = run_cli("query", "--limit", "5", "--format", "json", *store.options)
    assert (newest.code, len(json.loads(newest.out))) == (Exit.SOUND, 5)
    table = run_cli("query", "--limit", "5", *store.options)
    assert (table.code, len(table.out.splitlines())) == (Exit.FINDINGS, 7)
    assert "the newest 5 events; how many there are can't be said" in table.err


def test_a_missing_key_gives_3(store: Store, shell: Shell) -> None:
    """Without its key a store can be read, but not vouched for; sealing and recording need the key."""
    options = ["--store", str(store.path)]
    shell.check([c for c in READERS if c[0] not in ("integrity", "report")], Exit.SOUND, options)
    rows = store.path.parent / "rows.jsonl"
    rows.write_text('{"t":"2026-11-23T10:00:00Z","k":"a"}\n')
    importing = ["import", str(rows), "--set", "time=t", "--set", "type=k"]
    needing = [["integrity"], ["integrity", "--fast"], ["report", "daily"], *SEALERS, importing]
    for text in shell.check(needing, Exit.INCOMPLETE, options):
        assert "key" in text or "The check is incomplete" in text
    (sealing,) = shell.check([["seal"]], Exit.INCOMPLETE, options)
    assert "(on the command line: --key-file)" in sealing


def test_a_wrong_key_gives_3(store: Store, tmp_path: Path) -> None:
    """The key of another store is no proof either way."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"t":"2026-11-23T10:00:00Z","k":"a"}\n')
    run_cli("import", rows, "--set", "time=t", "--set", "type=k", "--store", tmp_path / "b", "--key-file",
            tmp_path / "other.key", cwd=tmp_path)  # fmt: skip
    assert (tmp_path / "other.key").exists()
    shown = run_cli("integrity", "--store", store.path, "--key-file", tmp_path / "other.key")
    assert shown.code == Exit.INCOMPLETE
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["stats", "--nonsense"],
        ["query", "--limit", "many"],
        ["query", "--limit", "-1"],
        ["query", "--since", "last tuesday"],
        ["query", "--since", "2026-11-24", "--until", "2026-11-20"],
        ["query", "--tz", "Mars/Olympus"],
        ["performance", "--by", "fortnight"],
        ["export", "--output", "events.xlsx"],
        ["export", "--columns", "nonsense"],
        ["import"],
        ["import", "x.jsonl"],
        ["report"],
        ["report", "daily", "--day", "someday"],
        ["demo", "--events", "5"],
        [],
    ],
)
def test_a_mistaken_call_gives_2_and_one_message(arguments: list[str], store: Store, tmp_path: Path) -> None:
    """No traceback, no output, and the message says what was expected."""
    options = store.options if arguments and arguments[0] not in ("demo", "report", "nonsense") else []
    if arguments[:2] == ["report", "daily"]:
        options = store.options
    shown = run_cli(*arguments, *options, cwd=tmp_path)
    assert shown.code == Exit.USAGE
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert arguments in ([], ["report"]) or shown.err.count("error:") == 1


def test_a_near_miss_is_pointed_out() -> None:
    """``auditkit qury`` is told about query."""
    assert "did you mean query?" in run_cli("qury").err


def test_a_store_that_is_not_there_gives_4(shell: Shell, tmp_path: Path) -> None:
    """No command makes a store by looking for one."""
    for text in shell.check([*READERS, *SEALERS], Exit.INPUT_OUTPUT, ["--store", str(tmp_path / "nowhere")]):
        assert re.match(r"error: expected an audit store at .*nowhere, found no store\.json", text)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_or_written_gives_4(store: Store, tmp_path: Path) -> None:
    """The message names the file that was asked for and the system's reason."""
    (tmp_path / "file").touch()
    (tmp_path / "rows.jsonl").write_text('{"t":"2026-11-23T10:00:00Z","k":"a"}\n')
    mapping = ["--set", "time=t", "--set", "type=k"]
    rejecting = ["--set", "time=k", "--set", "type=k", "--rejects", "file/rejects"]
    commands: list[tuple[list[str], str, str]] = [
        (["export", "--output", "no/folder.csv", *store.options], "no/folder.csv", "No such file or directory"),
        (["export", "--output", "file/x.csv", *store.options], "file/x.csv", "Not a directory"),
        (["report", "daily", "--output", "file/x.html", *store.options], "file", "File exists"),
        (["demo", "--output", "file/demo"], "file/demo", "Not a directory"),
        (["import", "no.jsonl", *mapping, "--store", "new"], "no.jsonl", "No such file or directory"),
        (
            ["import", "rows.jsonl", *mapping, "--store", "file/store", "--key-file", "k"],
            "file/store",
            "Not a directory",
        ),
        (["import", "rows.jsonl", *rejecting, "--store", "new", "--key-file", "k"], "file/rejects", "Not a directory"),
    ]
    for arguments, name, reason in commands:
        shown = run_cli(*arguments, cwd=tmp_path)
        assert (arguments, shown.code) == (arguments, Exit.INPUT_OUTPUT), shown.err
        assert re.search(rf"error: .*{name}\b.*{reason}", shown.err), shown.err
        assert ".part" not in shown.err
        assert "Traceback" not in shown.err


def test_a_full_disk_gives_4(store: Store) -> None:
    """Output that can't be written isn't lost without a word, whatever command it was."""
    for arguments in (*READERS, ["export", "--format", "parquet"], ["seal"], ["import", "--mapping", "list"]):
        with Path("/dev/full").open("wb") as full:
            finished = subprocess.run(
                [*COMMAND, *arguments, *store.options],
                stdout=full,
                stderr=subprocess.PIPE,
                cwd=store.path.parent,
                check=False,
            )
        assert (arguments, finished.returncode) == (arguments, Exit.INPUT_OUTPUT)
        assert b"No space left on device" in finished.stderr
        assert b"Traceback" not in finished.stderr


def test_a_standard_error_that_cant_be_written_accuses_nobody(store: Store, tmp_path: Path) -> None:
    """A log on a full disk: the command has no way to say what it had to say, and its code is not that of findings."""
    calls: list[list[object]] = [
        ["integrity", "--store", tmp_path / "nowhere"],
        ["export", *store.options, "--output", tmp_path / "events.csv"],
        ["stats", "--nope"],
    ]
    for arguments in calls:
        with Path("/dev/full").open("wb") as full:
            finished = subprocess.run(
                [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=full, cwd=tmp_path, check=False
            )
        assert (arguments, finished.returncode) == (arguments, Exit.INPUT_OUTPUT)


def test_whoever_stops_reading_standard_error_gets_141(tmp_path: Path) -> None:
    """As with standard output, for instance in `auditkit … 2>&1 | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        finished = subprocess.run([*COMMAND, "stats", "--store", str(tmp_path)], stderr=writer, check=False)
    finally:
        os.close(writer)
    assert finished.returncode == Exit.BROKEN_PIPE


def test_verbose_shows_the_traceback_of_an_error(tmp_path: Path) -> None:
    """Whoever looks for the cause of an error can have it, before or behind the command."""
    for arguments in (["--verbose", "stats"], ["stats", "--verbose"]):
        shown = run_cli(*arguments, "--store", tmp_path / "nowhere")
        assert "Traceback (most recent call last)" in shown.err
        assert "StoreMissing" in shown.err


def test_a_hostile_name_is_printable_in_an_error(tmp_path: Path) -> None:
    """A folder's name can hold escape sequences too."""
    shown = run_cli("stats", "--store", tmp_path / "x\x1b]0;owned\x07")
    assert shown.code == Exit.INPUT_OUTPUT
    assert find_unprintable(shown.err) == []
    assert r"\x1b]0;owned\x07" in shown.err


@pytest.mark.parametrize("arguments", [["query", "--limit", "0"], ["query", "--format", "json"], ["export"], ["stats"]])
def test_a_reader_that_stops_is_no_error(arguments: list[str], store: Store) -> None:
    """``| head`` ends the program quietly, and not with the code of integrity findings."""
    # The reader is gone before the first byte, which is the hardest case of stopping early.
    read, write = os.pipe()
    os.close(read)
    finished = subprocess.run([*COMMAND, *arguments, *store.options], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert finished.returncode == Exit.BROKEN_PIPE
    assert b"rror" not in finished.stderr
    assert b"Traceback" not in finished.stderr


def test_closed_streams_are_no_error(store: Store) -> None:
    """A program started with ``>&-`` does its work and says nothing."""
    for closed in (">&-", "2>&-"):
        line = f'exec "$@" {closed}'
        finished = subprocess.run(
            ["sh", "-c", line, "sh", *COMMAND, "stats", *store.options], capture_output=True, check=False
        )
        assert finished.returncode == Exit.SOUND, finished.stderr
        assert b"Traceback" not in finished.stderr


def is_waiting(pid: int) -> bool:
    """Whether a process waits for a file's lock, as Linux tells it."""
    waiting = (line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line)
    return any(str(pid) in fields for fields in waiting)


def catches_ctrl_c(pid: int) -> bool:
    """Whether a process has a handler for SIGINT, as Linux tells it."""
    (mask,) = re.findall(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


def start_in_foreground(line: list[str], cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a program that Ctrl-C reaches; what runs behind a shell's ``&``, as these tests may, has it ignored."""
    return subprocess.Popen(
        line,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Coverage's own work at the exit would be interrupted too, and complains with a traceback.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_ctrl_c_ends_quietly_with_130(store: Store) -> None:
    """A sealing that waits for another one is interrupted: no traceback, and nothing is lost."""
    with (store.path / "seal.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start_in_foreground([*COMMAND, "seal", *store.options])
        while not is_waiting(process.pid):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert out == b""
    assert b"Traceback" not in err
    assert run_cli("seal", *store.options).code == Exit.SOUND


@pytest.mark.slow
@pytest.mark.parametrize("command", ["integrity", "query --format json", "export --format csv", "report daily"])
def test_ctrl_c_at_any_moment_accuses_nobody(store: Store, command: str, tmp_path: Path) -> None:
    """While it loads the process just ends, later with 130; never with a traceback, or with damage that isn't there."""
    line = [*COMMAND, *command.split(), *store.options]
    for number in range(10):
        process = start_in_foreground(line, cwd=tmp_path)
        for caught in (True, False):  # first the interpreter's own start, then auditkit's import of itself
            while process.poll() is None and catches_ctrl_c(process.pid) != caught:
                time.sleep(0.001)
        try:
            _, errors = process.communicate(timeout=0.08 * number)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        err = errors.decode()
        moment = f"after {0.08 * number:.2f} s: {err}"
        assert process.returncode in {Exit.SOUND, Exit.INTERRUPTED, -signal.SIGINT}, moment
        assert "Traceback" not in err, moment
        assert "fault" not in err, moment


@pytest.mark.parametrize("module", ["click", "rich", "duckdb", "pyarrow", "pandas"])
def test_a_missing_extra_is_named(module: str, store: Store) -> None:
    """Where an optional library isn't installed, the message says which extra brings it."""
    script = (
        "import sys\n"
        f"sys.modules[{module!r}] = None\n"
        f"sys.argv = ['auditkit', 'stats', *{store.options!r}]\n"
        "from auditkit.cli import main\n"
        "main()\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == Exit.USAGE, finished.stderr
    assert "Traceback" not in finished.stderr
    assert re.search(r'pip install "auditkit-trail\[\w+\]" brings it', finished.stderr)


def test_every_extra_named_is_one_of_the_project() -> None:
    """The table of modules names extras that exist."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"(?m)^(\w+) = \[", section))
    assert set(EXTRAS.values()) <= extras


def test_a_damaged_store_is_a_finding_and_an_unknown_format_is_incomplete() -> None:
    """What can't be believed isn't mistaken for what can't be judged."""
    assert choose_exit(StoreIncomplete("x")) is Exit.INCOMPLETE
    assert choose_exit(StoreDamaged("x")) is Exit.FINDINGS
    assert choose_exit(FormatUnknown("x")) is Exit.INCOMPLETE


def test_an_error_on_a_terminal_is_coloured_unless_no_color_is_set(tmp_path: Path) -> None:
    """Standard error is a pipe here, so it's plain; standard output stays empty."""
    shown = run_on_terminal("stats", "--store", tmp_path / "nowhere")
    assert (shown.out, shown.code) == ("", Exit.INPUT_OUTPUT)
    assert "\x1b" not in shown.err
