"""Journal parts: who owns them, when they may go, and what they hold."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.store import durable, journal
from auditkit.store.journal import Part
from auditkit.store.layout import Layout, name_writer

WRITER = name_writer(date(2026, 11, 23))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A store with a journal folder."""
    (tmp_path / "journal").mkdir()
    return Layout(tmp_path)


@pytest.fixture
def opened(layout: Layout) -> Iterator[int]:
    """The descriptor of part 0 of our writer."""
    descriptor, number = journal.open_part(layout, WRITER, 0)
    assert number == 0
    yield descriptor
    os.close(descriptor)


def only_part(layout: Layout) -> Part:
    [part] = journal.list_parts(layout)
    return part


def test_a_part_belongs_to_its_owner_while_it_lives(layout: Layout) -> None:
    """An open part is owned, a closed one isn't; asking doesn't take it away from its owner."""
    descriptor, _ = journal.open_part(layout, WRITER, 0)
    part = only_part(layout)
    assert (part.writer, part.number) == (WRITER, 0)
    assert journal.is_owned(part)
    assert journal.is_owned(part)
    os.close(descriptor)
    assert not journal.is_owned(part)
    assert stat.S_IMODE(part.path.stat().st_mode) == 0o600


def test_a_part_that_is_gone_is_nobodys(layout: Layout) -> None:
    """Another sealer may have removed what was just listed."""
    part = Part(layout.part(WRITER, 0), WRITER, 0)
    assert not journal.is_owned(part)
    assert journal.remove_part(part, 0)
    assert journal.read_part(part).data == b""


def test_an_owned_part_is_not_removed(layout: Layout, opened: int) -> None:
    """What its owner may still write to stays."""
    os.write(opened, b"line\n")
    assert not journal.remove_part(only_part(layout), 5)
    assert only_part(layout).path.read_bytes() == b"line\n"


def test_a_part_that_has_grown_is_not_removed(layout: Layout) -> None:
    """Lines that were written after the sealer's reading aren't sealed yet."""
    descriptor, _ = journal.open_part(layout, WRITER, 0)
    os.write(descriptor, b"line\n")
    os.write(descriptor, b"more\n")
    os.close(descriptor)
    part = only_part(layout)
    assert not journal.remove_part(part, 5)
    assert journal.remove_part(part, 10)
    assert journal.list_parts(layout) == []


def test_a_number_that_is_taken_is_passed_over(layout: Layout, opened: int) -> None:
    """A file of that name, left by an interrupted call, doesn't stop a writer from going on."""
    descriptor, number = journal.open_part(layout, WRITER, 0)
    os.close(descriptor)
    assert number == 1
    assert len(journal.list_parts(layout)) == 2


def test_a_part_that_a_sealer_removes_at_birth_is_made_again(layout: Layout) -> None:
    """Whoever removes empty parts meanwhile, a writer always ends up with one that has its name and its lock."""

    def sealer() -> None:
        for _ in range(3000):
            for part in journal.list_parts(layout):
                journal.remove_part(part, 0)

    def writer(number: int) -> None:
        for again in range(60):
            name = name_writer(date(2026, 11, 1 + number))
            descriptor, part = journal.open_part(layout, name, again)
            path = layout.part(name, part)
            assert os.fstat(descriptor).st_ino == path.stat().st_ino
            assert journal.is_owned(Part(path, name, part))
            os.close(descriptor)

    with ThreadPoolExecutor(5) as pool:
        tasks = [pool.submit(sealer), *(pool.submit(writer, number) for number in range(4))]
    for task in tasks:
        task.result()


def test_a_link_is_no_journal(layout: Layout, tmp_path: Path) -> None:
    """A link in the journal's folder isn't followed, neither to lock nor to write."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    layout.part(WRITER, 0).symlink_to(victim)
    descriptor, number = journal.open_part(layout, WRITER, 0)
    os.close(descriptor)
    assert number == 1
    assert victim.read_bytes() == b"precious"


def test_other_files_are_not_listed(layout: Layout, opened: int) -> None:
    """Notes, editors' copies and folders in the journal aren't parts; a missing folder has none."""
    (layout.journal / "README").write_text("x")
    (layout.journal / f"{WRITER}.000000.jsonl~").write_text("x")
    (layout.journal / "folder").mkdir()
    assert [part.number for part in journal.list_parts(layout)] == [0]
    assert journal.list_parts(Layout(layout.root / "nowhere")) == []


def test_parts_are_listed_in_their_order(layout: Layout) -> None:
    """By writer, then by number."""
    writers = sorted(name_writer(date(2026, 11, day)) for day in (3, 1, 2))
    for number in (11, 2, 0):
        for writer in reversed(writers):
            durable.create_file(layout.part(writer, number), b"")
    assert [(part.writer, part.number) for part in journal.list_parts(layout)] == [
        (writer, number) for writer in writers for number in (0, 2, 11)
    ]


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.binary(max_size=20))
def test_a_torn_end_is_told_from_the_lines(lines: list[bytes], torn: bytes) -> None:
    """Everything up to the last newline is lines, what stands behind it is torn, and nothing is lost."""
    torn = torn.replace(b"\n", b"")
    content = b"".join(line + b"\n" for line in lines) + torn
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        read = journal.read_part(Part(Path(file.name), WRITER, 0))
    assert list(journal.split_lines(read.data)) == lines
    assert read.torn == torn
    assert read.size == len(content)


def test_reading_goes_on_where_it_ended(layout: Layout, opened: int) -> None:
    """A follower reads from its last offset."""
    os.write(opened, b"first\nsecond\nthi")
    first = journal.read_part(only_part(layout))
    assert (first.data, first.torn) == (b"first\nsecond\n", b"thi")
    os.write(opened, b"rd\n")
    assert journal.read_part(only_part(layout), len(first.data)).data == b"third\n"


def test_a_killed_owner_leaves_its_part(layout: Layout) -> None:
    """After kill -9 the part is nobody's, with what was written."""
    program = (
        "import os, pathlib, sys\n"
        "from auditkit.store import journal\n"
        "from auditkit.store.layout import Layout\n"
        "descriptor, _ = journal.open_part(Layout(pathlib.Path(sys.argv[1])), sys.argv[2], 0)\n"
        "os.write(descriptor, b'line\\ntor')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, str(layout.root), WRITER]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        assert journal.is_owned(only_part(layout))
        owner.kill()
    part = only_part(layout)
    assert not journal.is_owned(part)
    assert journal.read_part(part).torn == b"tor"


def test_a_file_system_without_locks_is_not_filled_with_empty_files(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal is told, and the file that couldn't be locked is taken away again."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(3):
        with pytest.raises(OSError, match="No locks available"):
            journal.open_part(layout, "20261123-aaaaaaaaaaaaaaaa", 0)
    assert list(layout.journal.iterdir()) == []
