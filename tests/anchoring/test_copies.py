"""Kept checkpoints: appended so that nothing spoils them, and found in whatever somebody kept."""

from __future__ import annotations

import email.policy
import errno
import html
import json
import multiprocessing
import os
import resource
import signal
import socket
from collections.abc import Callable
from email.message import EmailMessage
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditkit.anchoring import copies
from auditkit.anchoring.copies import MAX_BYTES, append_checkpoint, find_checkpoints, read_checkpoints
from auditkit.anchoring.failures import AnchorFailed
from auditkit.cosignature import cosign_text
from auditkit.errors import UsageError
from auditkit.note import (
    MAX_TREE_SIZE,
    Checkpoint,
    Signature,
    format_checkpoint,
    format_note,
    parse_note,
    sign_note,
    sign_text,
)
from tests.anchoring.logs import ORIGIN, SEED, Log

LOG = Log()
SIGNED = LOG.sign(8)
NOTE = parse_note(SIGNED)
OTHER = "auditkit/another7store5id"


def sign_fully(size: int) -> str:
    """A note with two cosignatures, one of a kind that isn't known, under names that JSON and HTML escape."""
    text = parse_note(LOG.sign(size)).text
    signatures = [
        sign_text(text, ORIGIN, SEED),
        cosign_text(text, "wïtness.example/<w1>&'\\", SEED, 1767139200),
        Signature("witness.example/w2", b"mlds", bytes(range(256)) * 9),
    ]
    return format_note(text, signatures)


def make_mail(text: str, encoding: str) -> bytes:
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["Subject"] = "Prüfpunkt"
    mail["To"] = "auditor@example.com"
    mail.set_content(text, cte=encoding)
    return mail.as_bytes()


FORMS: dict[str, Callable[[str], str | bytes]] = {
    "as it is": lambda note: note,
    "without its last newline": lambda note: note[:-1],
    "with the line ends of mails": lambda note: note.replace("\n", "\r\n"),
    "in bytes that are no text": lambda note: b"\xff\xfe\0\x80" + note.encode() + b"\xc3\xff",
    "behind a byte order mark": lambda note: "\ufeff" + note,
    "in JSON": lambda note: json.dumps({"checkpoint": note, "n": [1]}),
    "in JSON as UTF-8": lambda note: json.dumps({"checkpoint": note}, ensure_ascii=False),
    "in JSON, indented": lambda note: json.dumps({"checkpoint": note}, indent=2),
    "in JSON in JSON": lambda note: json.dumps({"message": json.dumps({"checkpoint": note})}),
    "in JSON with escaped slashes": lambda note: json.dumps({"checkpoint": note}).replace("/", "\\/"),
    "in JSON that is safe for HTML": lambda note: (
        json.dumps({"checkpoint": note}).replace("+", "\\u002B").replace("=", "\\u003d").replace("&", "\\u0026")
    ),
    "in JSON without the last newline": lambda note: json.dumps({"checkpoint": note.rstrip()}),
    "in HTML": lambda note: f"<html><pre>{html.escape(note)}</pre></html>",
    "in HTML, stripped": lambda note: f"<html><pre>\n{html.escape(note.strip())}</pre></html>",
    "in HTML in ASCII": lambda note: html.escape(note).encode("ascii", "xmlcharrefreplace"),
    "in HTML with names": lambda note: (
        "<pre>" + html.escape(note).replace("—", "&mdash;").replace("+", "&plus;") + "</pre>"
    ),
    "in HTML in hexadecimal": lambda note: html.escape(note).replace("—", "&#x2014;").replace("=", "&#X3D;"),
    "in HTML in JSON": lambda note: json.dumps({"page": f"<pre>{html.escape(note)}</pre>"}),
    "in JSON in HTML": lambda note: f"<code>{html.escape(json.dumps({'checkpoint': note}))}</code>",
    "in a mail of 8 bits": lambda note: make_mail(f"Hello,\n\n{note}\nBye\n", "8bit"),
    "in a mail, quoted-printable": lambda note: make_mail(f"Hello,\n\n{note}\nBye\n", "quoted-printable"),
    "in a reply": lambda note: "You wrote:\n" + "".join(f"> {line}".rstrip(" ") + "\n" for line in note.splitlines()),
    "in a listing": lambda note: "See:\n\n" + "".join(f"    {line}\n" for line in note.splitlines()) + "\nBye.\n",
    "in a proof": lambda note: f"c2sp.org/tlog-proof@v1\nindex 5\n{'A' * 43}=\n\n{note}",
    "in a commit": lambda note: json.dumps({"v": 1, "mac": "00"}) + "\n" + note,
}


@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_are_found_in_whatever_was_kept(form: str) -> None:
    """Each form in which a checkpoint leaves a machine gives back the note, with every signature, once."""
    for signed in (SIGNED, sign_fully(5)):
        kept = FORMS[form](signed)
        assert find_checkpoints(kept, ORIGIN) == [parse_note(signed)]
        assert find_checkpoints(kept, OTHER) == []
        raw = kept.encode() if isinstance(kept, str) else kept
        assert find_checkpoints(raw, ORIGIN) == [parse_note(signed)]


def test_all_of_them_are_found_in_their_order() -> None:
    """Several notes of one text are all given, each once, with and without cosignatures; those of others aren't."""
    foreign = sign_note(format_checkpoint(Checkpoint(OTHER, 3, bytes(32))), OTHER, SEED)
    text = (
        SIGNED + "\n" + foreign + sign_fully(8) + LOG.sign(21) + "\n\n\n" + SIGNED + json.dumps([LOG.sign(34), SIGNED])
    )
    expected = [SIGNED, sign_fully(8), LOG.sign(21), LOG.sign(34)]
    assert find_checkpoints(text, ORIGIN) == [parse_note(each) for each in expected]
    assert find_checkpoints(text, OTHER) == [parse_note(foreign)]


BROKEN = {
    "text only": NOTE.text,
    "no signature": NOTE.text + "\n",
    "no empty line": SIGNED.replace("\n\n", "\n"),
    "a size with a zero": SIGNED.replace("\n8\n", "\n08\n"),
    "a size that is too large": SIGNED.replace("\n8\n", f"\n{2**63}\n"),
    "a negative size": SIGNED.replace("\n8\n", "\n-8\n"),
    "a short root": SIGNED.replace("=\n\n", "\n\n"),
    "a root with stray bits": SIGNED.replace("\n8\n", "\n8\n" + "A" * 42 + "B=\n", 1).replace(
        "B=\n" + NOTE.text.split("\n")[2], "B="
    ),
    "a signature of another": SIGNED.replace(f"— {ORIGIN}", f"— {OTHER}"),
    "a signature of another length": SIGNED[:-9] + "\n",
    "another dash": SIGNED.replace("—", "-"),
    "a longer origin": "example.com/" + SIGNED.replace("— ", "— example.com/"),
    "control characters": SIGNED.replace("=\n\n", "=\nextension\x1b[31m\n\n"),
    "a log's name before its end": SIGNED.replace(ORIGIN + "\n", ORIGIN + " \n"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_only_looks_like_one_is_passed_over(fault: str) -> None:
    """What no signed checkpoint can look like isn't given, and what follows it is found all the same."""
    broken = BROKEN[fault]
    assert find_checkpoints(broken, ORIGIN) == []
    for glue in ("", "\n", "\n\n"):
        found = find_checkpoints(broken + glue + LOG.sign(21), ORIGIN)
        assert found == [parse_note(LOG.sign(21))] or (not broken.endswith("\n") and not glue)


def test_a_broken_line_spoils_only_itself() -> None:
    """Beside the log's own signature, a torn or damaged one of a witness is left out."""
    whole = sign_fully(8)
    lines = whole.splitlines(keepends=True)
    damaged = "".join([*lines[:-2], lines[-2].replace("= ", " ").rstrip("\n")[:-2] + "=\n", lines[-1]])
    (found,) = find_checkpoints(damaged, ORIGIN)
    assert found.text == NOTE.text
    assert found.signatures[0].name == ORIGIN
    assert found.signatures[-1] == parse_note(whole).signatures[-1]


def test_a_forgery_is_found_too() -> None:
    """Nothing is verified here: a note that nobody signed is given like any other, for whoever has the key."""
    forged = format_note(NOTE.text, [Signature(ORIGIN, bytes(4), bytes(64))])
    assert find_checkpoints(forged + SIGNED, ORIGIN) == [parse_note(forged), NOTE]


lines = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=20)
names = lines.filter(lambda name: "+" not in name and not any(char.isspace() for char in name))
notes = st.builds(
    lambda origin, size, root, extensions, extra: format_note(
        format_checkpoint(Checkpoint(origin, size, root, tuple(extensions))),
        [sign_text("-\n", origin, SEED), *extra],
    ),
    st.just(ORIGIN),
    st.integers(0, MAX_TREE_SIZE),
    st.binary(min_size=32, max_size=32),
    # A line that ends in the log's name may be the first of another note, and isn't taken for an extension.
    st.lists(lines.filter(lambda line: not line.endswith(ORIGIN)), max_size=2),
    st.lists(
        st.builds(Signature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)), max_size=3
    ),
)
junk = st.one_of(
    st.text(max_size=60),
    st.text('\n\r\\ntu002f"&#;>—= ' + ORIGIN[:4], max_size=60),
    st.sampled_from([ORIGIN, ORIGIN + "\n", NOTE.text, SIGNED[:-30], NOTE.text[:-1], NOTE.text + "\n"]),
)


@given(parts=st.lists(st.tuples(junk, notes), max_size=4), end=junk)
def test_every_note_is_found_between_whatever(parts: list[tuple[str, str]], end: str) -> None:
    """Notes on lines of their own are found in any text, in their order."""
    text = "".join(f"{before}\n{note}\n" for before, note in parts) + end
    expected = list(dict.fromkeys(parse_note(note) for _, note in parts))
    raw = text.encode("utf-8", "surrogatepass")
    found = find_checkpoints(raw, ORIGIN)
    assert [each for each in found if each in expected] == expected
    assert find_checkpoints(text, ORIGIN) == found


@given(parts=st.lists(st.tuples(junk, notes), max_size=3), ascii=st.booleans(), before=junk)
def test_every_note_is_found_in_any_document(parts: list[tuple[str, str]], ascii: bool, before: str) -> None:
    """Whatever else a JSON document says, its notes are found; so are those of a page of HTML."""
    document = json.dumps([{"junk": each, "checkpoint": note} for each, note in parts], ensure_ascii=ascii)
    page = "".join(f"<p>{html.escape(each)}</p><pre>{html.escape(note)}</pre>" for each, note in parts)
    expected = {parse_note(note) for _, note in parts}
    for text in (document, before.replace("\\", "") + "\n" + document):
        assert expected <= set(find_checkpoints(text.encode("utf-8", "surrogatepass"), ORIGIN))
    assert expected <= set(find_checkpoints(page.encode("utf-8", "surrogatepass"), ORIGIN))


@given(noise=st.one_of(st.binary(max_size=300), st.text(max_size=300), junk))
@example(noise="&#" + "9" * 5000 + ";" + "&#x110000;&#xd800;")
@example(noise="\\n" + "\\ud800\\udc00\\udfff\\u" + "\\" * 99)
@example(noise=b"=E2=80=94 =\r\n=ZZ=")
def test_nothing_makes_the_search_fail(noise: bytes | str) -> None:
    """Whatever is searched, nothing is raised, and nothing is found that isn't a checkpoint."""
    for each in find_checkpoints(noise, ORIGIN):
        assert each.text.startswith(ORIGIN + "\n")


@given(position=st.integers(0, len(SIGNED)), added=st.text(max_size=3), removed=st.integers(0, 3))
def test_a_changed_note_is_another_or_none(position: int, added: str, removed: int) -> None:
    """What is found in a changed text is what could be written so, and the next note is found in any case."""
    changed = SIGNED[:position] + added + SIGNED[position + removed :]
    found = find_checkpoints(changed + "\n\n" + LOG.sign(21), ORIGIN)
    assert found[-1] == parse_note(LOG.sign(21))
    for each in found[:-1]:
        assert format_note(each.text, each.signatures).encode()


HOSTILE = {
    "origins": f"{ORIGIN}\n",
    "quoted origins": f'x"{ORIGIN}\n',
    "checkpoints": NOTE.text,
    "checkpoints without a line of their own": f'"{NOTE.text}',
    "checkpoints with extensions": NOTE.text + "x\n" * 100,
    "checkpoints and dashes": NOTE.text + "\n— ",
    "notes": SIGNED + "\n",
    "notes with a hundred signatures": NOTE.text + "\n" + f"— {ORIGIN} AAAAAAAA\n" * 100,
    "escaped newlines": "\\n",
    "escaped codes": "\\n\\u2014\\",
    "backslashes": "\\",
    "references": "&amp;",
    "numbers": "&#38;#38;",
    "quotations": "> ",
    "soft line ends": "=E2=80=94=\r\n",
    "escaped notes": json.dumps(SIGNED),
    "ampersands": "&",
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_a_hostile_text_comes_to_an_end(shape: str) -> None:
    """A megabyte of what makes a search begin again and again: one that isn't linear would take hours."""
    text = HOSTILE[shape] * ((1 << 20) // len(HOSTILE[shape]))
    for end in ("", SIGNED):
        assert len(find_checkpoints(f"{text}\n{end}", ORIGIN)) <= 2


def test_the_length_is_bounded(tmp_path: Path) -> None:
    """A text beyond the limit is refused before it is searched, in a file before it is read."""
    with pytest.raises(UsageError, match=r"report\.html: expected a text of at most 67,108,864 bytes"):
        find_checkpoints(bytes(MAX_BYTES + 1), ORIGIN, source="report.html")
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="found 1,099,511,627,776: name a file of text"):
        read_checkpoints(path, ORIGIN)


@pytest.mark.parametrize("origin", ["", "a\nb", "a\x1bb", "\ud800"])
def test_what_can_be_no_origin_is_refused(origin: str) -> None:
    """A caller that has no log's name can't have meant the call."""
    with pytest.raises(UsageError):
        find_checkpoints(SIGNED, origin)


# Reading and appending


def test_appended_checkpoints_are_read_again(tmp_path: Path) -> None:
    """The file is its owner's alone, each note is whole, and an empty line is between two."""
    path = tmp_path / "kept.txt"
    for size in (1, 8, 21):
        append_checkpoint(path, LOG.sign(size))
    assert path.read_text() == "\n".join(LOG.sign(size) for size in (1, 8, 21))
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_checkpoints(path, ORIGIN) == [parse_note(LOG.sign(size)) for size in (1, 8, 21)]


def test_a_torn_end_spoils_nothing_that_follows(tmp_path: Path) -> None:
    """Wherever a killed process or a full disk left the file, what was there before and what comes next are found."""
    path = tmp_path / "kept.txt"
    cosigned = format_note(
        NOTE.text, [*NOTE.signatures, cosign_text(NOTE.text, "witness.example/w1", SEED, 1767139200)]
    )
    before, torn, after = sign_fully(3), cosigned.encode(), sign_fully(21)
    for length in range(len(torn)):
        path.write_bytes(before.encode() + b"\n" + torn[:length])
        append_checkpoint(path, after)
        found = read_checkpoints(path, ORIGIN)
        assert found[0] == parse_note(before)
        assert found[-1] == parse_note(after)
        # A note that was torn behind the log's own signature is one without the witnesses' lines.
        for each in found[1:-1]:
            assert each.text == NOTE.text
            assert each.signatures[0] == NOTE.signatures[0]


def append_many(path: Path, first: int) -> None:
    for number in range(first, first + 25):
        append_checkpoint(path, LOG.sign(number))


def test_processes_append_at_once(tmp_path: Path) -> None:
    """Two processes that make the file and append to it at the same time lose nothing of each other."""
    path = tmp_path / "kept.txt"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(path, first)) for first in (1, 26)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    found = read_checkpoints(path, ORIGIN)
    assert {each.text for each in found} == {parse_note(LOG.sign(number)).text for number in range(1, 51)}


def test_an_existing_file_keeps_what_it_has(tmp_path: Path) -> None:
    """Whatever is in front, of whatever mode: it is appended to, also through a link."""
    path = tmp_path / "notes.md"
    path.write_text("# Our checkpoints\n\nSigned by the store.")
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    append_checkpoint(link, SIGNED)
    assert path.read_text() == "# Our checkpoints\n\nSigned by the store.\n" + SIGNED
    assert path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert read_checkpoints(link, ORIGIN) == [NOTE]


def test_a_file_that_cannot_be_read_is_appended_to(tmp_path: Path) -> None:
    """It is opened for appending and nothing else: that is all somebody else's drop box may allow."""
    path = tmp_path / "kept.txt"
    path.touch(mode=0o200)
    append_checkpoint(path, SIGNED)
    append_checkpoint(path, LOG.sign(9))
    path.chmod(0o600)
    assert path.read_text() == SIGNED + "\n" + LOG.sign(9)


def test_only_files_are_appended_to(tmp_path: Path) -> None:
    """A pipe isn't waited for, a folder, a socket and a device aren't written to."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "folder", tmp_path / "socket", Path("/dev/null")):
            with pytest.raises(UsageError, match="expected a regular file to append checkpoints to"):
                append_checkpoint(path, SIGNED)
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(UsageError, match="expected a regular file"):
        append_checkpoint(tmp_path / "pipe", SIGNED)
    assert os.read(reader, 10) == b""
    os.close(reader)


def test_only_checkpoints_are_appended(tmp_path: Path) -> None:
    """What nobody could verify later isn't kept, and no file is made for it."""
    path = tmp_path / "kept.txt"
    for broken in ("", NOTE.text, SIGNED[:-1], SIGNED + "\n", sign_note("hello\n", ORIGIN, SEED)):
        with pytest.raises(UsageError, match="expected a signed checkpoint to be appended"):
            append_checkpoint(path, broken)
    assert not path.exists()


def test_what_cannot_be_written_is_an_anchor_that_failed(tmp_path: Path) -> None:
    """A folder that isn't there is named with what to do, and what the system said is the cause."""
    with pytest.raises(AnchorFailed, match="No such file or directory: name a file in a folder") as failed:
        append_checkpoint(tmp_path / "nowhere" / "kept.txt", SIGNED)
    assert isinstance(failed.value.__cause__, FileNotFoundError)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(AnchorFailed, match="symbolic links"):
        append_checkpoint(tmp_path / "loop", SIGNED)


def fill_up(path: Path, connection: Connection) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(SIGNED.encode()) + 100, resource.RLIM_INFINITY))
    try:
        append_checkpoint(path, LOG.sign(21))
    except AnchorFailed as error:
        connection.send((str(error), error.__cause__.errno if isinstance(error.__cause__, OSError) else 0))
    else:
        connection.send(("", 0))


def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    """Where a part only can be written it is a failure, what was there stays, and the next one is whole."""
    path = tmp_path / "kept.txt"
    append_checkpoint(path, SIGNED)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=fill_up, args=(path, theirs))
    process.start()
    message, code = ours.recv()
    process.join(60)
    ours.close()
    theirs.close()
    assert "or make room" in message
    assert code == errno.EFBIG
    assert path.stat().st_size == len(SIGNED.encode()) + 100
    append_checkpoint(path, LOG.sign(34))
    assert read_checkpoints(path, ORIGIN) == [NOTE, parse_note(LOG.sign(34))]


def test_the_wrong_file_is_told_from_an_empty_one(tmp_path: Path) -> None:
    """Whoever gives another store's report is told whose it is; otherwise, that there is no checkpoint at all."""
    path = tmp_path / "report"
    foreign = [
        sign_note(format_checkpoint(Checkpoint(origin, 3, bytes(32))), origin, SEED)
        for origin in (OTHER, "x.example/log")
    ]
    for form in ("as it is", "in JSON", "in HTML", "in HTML in ASCII", "in a reply", "in a mail, quoted-printable"):
        kept = FORMS[form]("\n".join(foreign))
        path.write_bytes(kept.encode() if isinstance(kept, str) else kept)
        with pytest.raises(
            UsageError, match=f"found a report of another store: its checkpoints are of {OTHER}, x.exam"
        ):
            read_checkpoints(path, ORIGIN)
    for nothing in ("", "Hello", NOTE.text, f"{ORIGIN}\n"):
        path.write_text(nothing)
        with pytest.raises(
            UsageError, match=f"expected a signed checkpoint of {ORIGIN} in .*, found none of any store"
        ):
            read_checkpoints(path, ORIGIN)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe isn't waited for, and the advice is for a kept file, not for one of the store."""
    os.mkfifo(tmp_path / "pipe")
    for path, found in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a folder"), (Path("/dev/zero"), "a device")):
        with pytest.raises(UsageError, match=f"found {found}: name a file of text that holds a signed checkpoint"):
            read_checkpoints(path, ORIGIN)
    with pytest.raises(UsageError, match="found none at"):
        read_checkpoints(tmp_path / "nowhere", ORIGIN)


@given(
    noise=st.one_of(
        st.binary(max_size=200), junk.map(lambda text: text.encode("utf-8", "surrogatepass")), notes.map(str.encode)
    )
)
def test_the_search_for_others_never_fails(noise: bytes) -> None:
    """Looking whose report it is reads as hostile a text as looking for one's own."""
    others = copies._list_origins(noise)
    assert len(others) <= 3
