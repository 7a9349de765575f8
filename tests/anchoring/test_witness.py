"""Witnesses: one by the book, which cosigns what only grew, and every kind that is not to be believed."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditkit import note
from auditkit.anchoring.failures import AnchorFailed
from auditkit.anchoring.witness import Witness, WitnessConflict, parse_witness, request_cosignature
from auditkit.cosignature import CosignerKey, cosign_text, parse_cosigner_key, verify_cosignature
from auditkit.errors import StoreDamaged, UsageError
from tests.anchoring.logs import ORIGIN, SEED, VKEY, Log
from tests.anchoring.servers import Reply, Request, closed_port, serve, serve_bytes
from tests.anchoring.witnesses import Latest, RunningWitness, running_witness

KEY_SEED = bytes([7]) * 32
KEY = CosignerKey("witness.example/w1", note.derive_public_key(KEY_SEED))
LOG = Log()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningWitness]:
    """A witness that knows the log's key."""
    with running_witness([VKEY], folder=tmp_path) as witness:
        yield witness


def ask(witness: RunningWitness | str, log: Log, size: int, *, known_size: int = 0, timeout_s: float = 10) -> int:
    """Ask for a cosignature over the first leaves of a log; gives the time that it states."""
    asked = Witness(witness, KEY) if isinstance(witness, str) else parse_witness(f"{witness.vkey}={witness.url}")
    signed = log.sign(size)
    signature = request_cosignature(asked, signed, log.prove(size), known_size=known_size, timeout_s=timeout_s)
    # What came back can be written into the note, and whoever has the key can check it there.
    text = note.parse_note(signed).text
    whole = note.parse_note(note.format_note(text, [*note.parse_note(signed).signatures, signature]))
    assert note.verify_note(whole, VKEY)
    time_s = verify_cosignature(whole, asked.key)
    assert time_s is not None
    return time_s


def refuse(reply: Reply, *, known_size: int = 0, size: int = 8) -> AnchorFailed:
    """Ask somebody who answers like this; gives what is raised."""
    with serve(lambda _: reply) as server, pytest.raises(AnchorFailed) as refused:
        ask(server.url, LOG, size, known_size=known_size)
    check_message(refused.value)
    return refused.value


def check_message(error: Exception) -> None:
    message = str(error)
    assert message.startswith("witness witness.example/w1: expected")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 600


def test_a_witness_cosigns_a_tree_that_grows(running: RunningWitness) -> None:
    """From the first checkpoint on, each that continues the one before is cosigned, at the present time."""
    before = int(time.time())
    for size in (1, 2, 3, 8, 8, 21, 64):
        assert before <= ask(running, LOG, size) <= time.time()
        assert running.latest(ORIGIN) == Latest(size, LOG.root(size))
    assert running.latest("auditkit/another") is None


def test_a_witness_says_what_it_knows_and_gets_the_proof_from_there(running: RunningWitness) -> None:
    """Without memory it takes two requests: the first learns the witness's size; with it, one."""
    ask(running, LOG, 5)
    assert running.statuses == [200]
    ask(running, LOG, 9)
    assert running.statuses == [200, 409, 200]
    ask(running, LOG, 12, known_size=9)
    assert running.statuses == [200, 409, 200, 200]
    ask(running, LOG, 12, known_size=12)
    assert running.statuses[4:] == [200]


@pytest.mark.parametrize("remembered", [3, 6, 8, 20, 2**62])
def test_a_wrong_memory_costs_a_request_and_nothing_else(running: RunningWitness, remembered: int) -> None:
    """What somebody remembered of the witness may be wrong or from another store: the witness's word counts."""
    ask(running, LOG, 5)
    ask(running, LOG, 8, known_size=remembered)
    assert running.latest(ORIGIN) == Latest(8, LOG.root(8))
    assert running.statuses == [200, 409, 200]


def test_proofs_are_asked_only_for_sizes_that_need_one(running: RunningWitness) -> None:
    """Nothing is to be proved from the empty tree, nor from the same one."""
    asked = Witness(running.url, parse_cosigner_key(running.vkey))
    for size in (4, 4, 7):
        prover = LOG.prove(size)
        request_cosignature(asked, LOG.sign(size), prover)
        assert prover.asked == ([4] if size == 7 else [])


def test_a_witness_remembers_over_its_end(tmp_path: Path) -> None:
    """What it has cosigned is on its disk before it answers."""
    for size in (3, 6):
        with running_witness([VKEY], folder=tmp_path) as witness:
            ask(witness, LOG, size)
    with running_witness([VKEY], folder=tmp_path) as witness, pytest.raises(WitnessConflict):
        ask(witness, LOG, 5)


def test_a_rolled_back_store_is_found(running: RunningWitness) -> None:
    """A store that is an older copy of itself has a checkpoint that once was right; the witness knows a larger one."""
    ask(running, LOG, 12)
    for known_size in (0, 7, 12):
        with pytest.raises(WitnessConflict, match="a larger one of 12: the store was rolled back") as found:
            ask(running, LOG, 7, known_size=known_size)
        assert found.value.size == 12
        check_message(found.value)
    assert running.latest(ORIGIN) == Latest(12, LOG.root(12))


def test_a_rewritten_store_is_found_at_the_same_size(running: RunningWitness) -> None:
    """As many leaves and another root: whoever has the key can sign it, and the witness doesn't."""
    ask(running, LOG, 8)
    for known_size in (0, 8):
        with pytest.raises(WitnessConflict, match="another one of the same size: the store was rewritten") as found:
            ask(running, Log("forged", fork=6), 8, known_size=known_size)
        assert found.value.size == 8
        check_message(found.value)


def test_a_rewritten_store_that_grew_is_found(running: RunningWitness) -> None:
    """Its proof is one of another history, which the witness refuses: no signature of the operator helps."""
    ask(running, LOG, 8)
    for known_size in (0, 8):
        with pytest.raises(WitnessConflict, match="one of 8 that is no beginning of it") as found:
            ask(running, Log("forged", fork=6), 13, known_size=known_size)
        assert found.value.size == 8
        check_message(found.value)
    assert ask(running, Log("forged", fork=8), 13), "from the ninth leaf on, nobody knows better"


def test_a_size_that_the_store_never_had_is_a_conflict(running: RunningWitness) -> None:
    """Whoever gives the proofs may know that the store had no such tree."""
    ask(running, LOG, 5)

    def prove(size: int) -> list[bytes]:
        raise UsageError(f"no commit has {size} leaves")

    with pytest.raises(WitnessConflict) as found:
        request_cosignature(Witness(running.url, parse_cosigner_key(running.vkey)), LOG.sign(9), prove)
    assert found.value.size == 5
    assert isinstance(found.value.__cause__, UsageError)


def test_a_conflict_is_damage_and_survives_pickling() -> None:
    """Who handles damaged stores handles it too, and it can come out of another process."""
    assert issubclass(WitnessConflict, StoreDamaged)
    copy: WitnessConflict = pickle.loads(pickle.dumps(WitnessConflict("found another", 12)))
    assert (str(copy), copy.size) == ("found another", 12)


def test_a_witness_of_other_logs_refuses(tmp_path: Path) -> None:
    """An unknown log and an unknown key of a known one are no conflicts; the message says what to ask for."""
    with running_witness([], folder=tmp_path) as witness:
        with pytest.raises(AnchorFailed, match=f"found 404: it doesn't know the log {ORIGIN}") as refused:
            ask(witness, LOG, 3)
        check_message(refused.value)
    stranger = note.format_verifier_key(ORIGIN, note.derive_public_key(bytes(32)))
    with running_witness([stranger], folder=tmp_path) as witness:
        with pytest.raises(AnchorFailed, match="found 403: it doesn't accept this log's key") as refused:
            ask(witness, LOG, 3)
        check_message(refused.value)
        assert witness.latest(ORIGIN) is None


@pytest.mark.parametrize(
    "status, message, transient",
    [
        (204, "see whether the URL is right", False),
        (302, "redirects aren't followed", False),
        (308, "redirects aren't followed", False),
        (400, "see whether the URL is right", False),
        (409, "see whether the URL is right", False),
        (422, "see whether the URL is right", False),
        (429, "try again later", True),
        (500, "try again later", True),
        (503, "try again later", True),
    ],
)
def test_other_answers_accuse_nobody(status: int, message: str, transient: bool) -> None:
    """Whatever else a server says is no evidence of anything, and the message says what to do."""
    refused = refuse(Reply(status, headers={"Location": "http://127.0.0.1:1/x"}))
    assert f"found {status}" in str(refused)
    assert message in str(refused)
    assert refused.transient is transient


def test_a_redirect_leads_nowhere() -> None:
    """Not even to a witness that would cosign: what was configured is what is asked."""
    with running_witness([VKEY]) as witness:
        elsewhere = Reply(307, headers={"Location": f"{witness.url}/add-checkpoint"})
        with serve(lambda _: elsewhere) as server, pytest.raises(AnchorFailed, match="redirects aren't followed"):
            ask(server.url, LOG, 3)
        assert witness.statuses == []


@pytest.mark.parametrize(
    "body", [b"", b"5", b"05\n", b"-1\n", b"5\n\n", b"5 \n", b"\xff\n", b"9" * 30 + b"\n", b"five\n"]
)
def test_a_size_that_is_not_one_is_not_taken(body: bytes) -> None:
    """What isn't a size in the form of the specification leads to no second request and no accusation."""
    reply = Reply(409, body, {"Content-Type": "text/x.tlog.size"})
    with serve(lambda _: reply) as server, pytest.raises(AnchorFailed):
        ask(server.url, LOG, 8)
    assert len(server.requests) == 1


def test_a_size_of_another_media_type_is_not_taken() -> None:
    """A page of text that happens to be a number is no size; parameters of the type don't matter."""
    with serve(lambda _: Reply(409, b"5\n", {"Content-Type": "text/plain"})) as server, pytest.raises(AnchorFailed):
        ask(server.url, LOG, 8)
    assert len(server.requests) == 1
    answers = iter([Reply(409, b"5\n", {"Content-Type": "Text/X.tlog.size; charset=utf-8"}), Reply(500)])
    with serve(lambda _: next(answers)) as server, pytest.raises(AnchorFailed):
        ask(server.url, LOG, 8)
    assert [request.body.partition(b"\n")[0] for request in server.requests] == [b"old 0", b"old 5"]


def test_a_witness_that_changes_its_mind_is_asked_twice_and_no_more() -> None:
    """Each answer names another size, as if somebody else were submitting: it is given up, and accuses nobody."""
    sizes = iter([b"3\n", b"4\n", b"5\n"])
    with serve(lambda _: Reply(409, next(sizes), {"Content-Type": "text/x.tlog.size"})) as server:
        with pytest.raises(AnchorFailed, match="says 4 now") as refused:
            ask(server.url, LOG, 8)
        assert refused.value.transient
        assert len(server.requests) == 2


def test_a_larger_tree_in_the_second_answer_is_a_conflict_too() -> None:
    """The witness may be shown a newer checkpoint between the two requests."""
    sizes = iter([b"3\n", b"9\n"])
    with serve(lambda _: Reply(409, next(sizes), {"Content-Type": "text/x.tlog.size"})) as server:
        with pytest.raises(WitnessConflict) as found:
            ask(server.url, LOG, 8)
        assert found.value.size == 9


def test_the_request_is_what_the_specification_shows() -> None:
    """Old size, proof and empty line come before the note, each line with its newline, and nothing behind it."""
    with serve(lambda _: Reply(500)) as server, pytest.raises(AnchorFailed):
        ask(f"{server.url}/prefix/", LOG, 8, known_size=5)
    (request,) = server.requests
    assert request.path == "/prefix/add-checkpoint"
    head, _, rest = request.body.decode().partition("\n\n")
    assert rest == LOG.sign(8)
    lines = head.split("\n")
    assert lines[0] == "old 5"
    assert len(lines[1:]) == len(LOG.prove(8)(5))
    assert all(len(line) == 44 for line in lines[1:])


def make_line(
    text: str, *, name: str = KEY.name, seed: bytes = KEY_SEED, time_s: int = 1767139200, flip: bool = False
) -> bytes:
    signature = cosign_text(text, name, seed, time_s)
    if flip:
        signature = note.Signature(name, signature.key_id, signature.signature[:-1] + b"\0")
    return note.format_note("-\n", [signature]).removeprefix("-\n\n").encode()


TEXT = note.parse_note(LOG.sign(8)).text
OWN_LINE = LOG.sign(8).rpartition("\n\n")[2].encode()


@pytest.mark.parametrize(
    "body",
    [
        make_line(TEXT, seed=SEED),
        make_line(TEXT, name="witness.example/w2"),
        make_line(note.parse_note(LOG.sign(9)).text),
        make_line(TEXT, flip=True),
        make_line(TEXT) + make_line(TEXT, flip=True),
        make_line(TEXT)[:-1],
        make_line(TEXT).replace(b"\n", b"\r\n"),
        make_line(TEXT) + b"\n",
        b"\n" + make_line(TEXT),
        b"extension\n\n" + make_line(TEXT),
        OWN_LINE,
        b"",
        b"\n",
        b"<html>It works!</html>\n",
        b"\xff\xfe" * 30,
        b"\0" * 100,
        "— \x1b[31m AAAA\n".encode(),
        make_line(TEXT) * 101,
    ],
)
def test_a_bad_answer_is_no_cosignature(body: bytes) -> None:
    """Another key, another text, a broken signature, a line too many or something else altogether: none is taken."""
    refused = refuse(Reply(200, body))
    assert not refused.transient


def test_a_cosignature_of_a_longer_text_is_none() -> None:
    """A witness that puts a text of its own in front of its line, and signs both, has cosigned something else."""
    longer = f"{TEXT}\nextension\n"
    proper = note.sign_text(f"cosignature/v1\ntime 1767139200\n{longer}", KEY.name, KEY_SEED).signature
    signature = note.Signature(KEY.name, KEY.key_id, (1767139200).to_bytes(8, "big") + proper)
    whole = note.format_note(longer, [signature])
    assert verify_cosignature(note.parse_note(whole), KEY) == 1767139200
    refuse(Reply(200, whole.removeprefix(f"{TEXT}\n").encode()))


def test_lines_of_unknown_keys_are_ignored() -> None:
    """A witness may give lines of other keys, of kinds not known here, and two of its own: the later one is taken."""
    ml_dsa = note.format_note("-\n", [note.Signature(KEY.name, b"mlds", bytes(2428))]).removeprefix("-\n\n").encode()
    late = int(time.time())
    body = ml_dsa + make_line(TEXT, time_s=late) + make_line(TEXT) + make_line(TEXT, seed=SEED) + OWN_LINE
    with serve(lambda _: Reply(200, body)) as server:
        assert ask(server.url, LOG, 8) == late


@pytest.mark.parametrize("time_s", [None, 253402300800, 2**62, 2**63 - 1], ids=lambda time_s: str(time_s or "two days"))
def test_a_time_in_the_far_future_is_refused(time_s: int | None) -> None:
    """Who is asked now can't vouch for what will be, in whatever century."""
    refused = refuse(Reply(200, make_line(TEXT, time_s=time_s or int(time.time()) + 2 * 86400)))
    assert "see which of the two clocks is wrong" in str(refused)


def test_a_time_beyond_all_times_is_refused() -> None:
    """2^63 can't even be said by the specification, though it is signed."""
    proper = note.sign_text(f"cosignature/v1\ntime {2**63}\n{TEXT}", KEY.name, KEY_SEED).signature
    line = note.format_note("-\n", [note.Signature(KEY.name, KEY.key_id, (2**63).to_bytes(8, "big") + proper)])
    assert "found none that holds" in str(refuse(Reply(200, line.removeprefix("-\n\n").encode())))


@pytest.mark.parametrize("ahead_s", [-(10**9), -600, 0, 600, 80_000])
def test_clocks_may_differ(ahead_s: int) -> None:
    """A witness whose clock is some hours ahead, or years behind, still says what it says."""
    with running_witness([VKEY], clock=lambda: time.time() + ahead_s) as witness:
        assert abs(ask(witness, LOG, 3) - time.time() - ahead_s) < 60


def test_an_endless_answer_is_cut() -> None:
    """Nobody fills the memory of whoever asks."""

    def talk(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not ended.is_set():
            connection.sendall(b"x" * 65536)

    with serve_bytes(talk) as url, pytest.raises(AnchorFailed, match="at most 65,536 bytes") as refused:
        ask(url, LOG, 3)
    check_message(refused.value)
    assert "at most 65,536 bytes" in str(refuse(Reply(200, b"x" * 65537)))


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_slow_answer_has_one_deadline(begin: bytes) -> None:
    """A byte now and then, in the header or in the body, doesn't begin the time anew."""

    def talk(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(begin)
        while not ended.wait(0.05):
            connection.sendall(b"x")

    with serve_bytes(talk) as url, pytest.raises(AnchorFailed, match=r"within 0\.4 s, found none") as refused:
        ask(url, LOG, 3, timeout_s=0.4)
    assert refused.value.transient
    check_message(refused.value)


@pytest.mark.parametrize(
    "said", [b"", b"\xff\0\x1b[31m" * 50 + b"\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\n"]
)
def test_what_is_not_http_is_no_answer(said: bytes) -> None:
    """A server of another kind is named as such, and nothing it said is repeated."""

    def talk(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(said)

    with serve_bytes(talk) as url, pytest.raises(AnchorFailed) as refused:
        ask(url, LOG, 3, timeout_s=5)
    check_message(refused.value)
    assert "OpenSSH" not in str(refused.value)


def test_a_body_that_breaks_off_is_no_answer() -> None:
    """A cosignature is whole or it isn't there."""
    line = make_line(TEXT)

    def talk(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(line) + 1) + line)

    with serve_bytes(talk) as url, pytest.raises(AnchorFailed, match="IncompleteRead") as refused:
        ask(url, LOG, 8)
    assert refused.value.transient


def test_nobody_there_is_said_so() -> None:
    """A closed port is a failure that may pass."""
    with closed_port() as url, pytest.raises(AnchorFailed, match="Connection refused") as refused:
        ask(url, LOG, 3)
    assert refused.value.transient
    assert isinstance(refused.value.__cause__, ConnectionRefusedError)
    check_message(refused.value)


def test_a_note_that_is_no_checkpoint_is_not_submitted() -> None:
    """What can't be a checkpoint leaves the machine to nobody."""
    with serve(lambda _: Reply(200)) as server:
        for broken in ("hello\n", note.sign_note("hello\n", ORIGIN, SEED), LOG.sign(3).replace("\n3\n", "\n03\n")):
            with pytest.raises(StoreDamaged):
                request_cosignature(Witness(server.url, KEY), broken, LOG.prove(3))
        with pytest.raises(UsageError, match="0 leaves or more, found -1"):
            ask(server.url, LOG, 3, known_size=-1)
        with pytest.raises(UsageError, match="a timeout above 0 seconds, found 0"):
            ask(server.url, LOG, 3, timeout_s=0)
    assert server.requests == []


@pytest.mark.parametrize(
    "url", ["https://w.example", "https://w.example:8443/a=b/c+d", "http://[::1]:8000/x", "http://localhost/"]
)
def test_a_witness_is_one_argument(url: str) -> None:
    """Key and URL come in one word, whatever + and = the name and the URL hold."""
    for name in (KEY.name, "a=b", "=", "witness.example/key=1"):
        key = CosignerKey(name, KEY.public_key)
        assert parse_witness(f"{key}={url}") == Witness(url, key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        str(KEY),
        f"{KEY}=",
        f"{KEY}=witness.example",
        f"{KEY}=ftp://witness.example/",
        f"{KEY}=http://hunter2.example/",
        f"{KEY}=https://hunter2.example/?token=hunter2",
        f"{KEY}=https://hunter2.example/#hunter2",
        f"{KEY}=https://hunter2:x@[::1/",
        f"{KEY}=https:///hunter2",
        f"{KEY}=https://hunter2.example:99999/",
        f"{KEY}=https://hunter2.example:0/",
        f"{KEY}=https://{'hunter2' * 10}.example/",
        f"{KEY}=https://w.example/hunter2 x",
        f"{KEY}=https://w.example/hunter2\n",
        f"{KEY}=https://wïtness.example/hunter2",
        f"{VKEY}=https://hunter2.example/",
        "https://hunter2.example/",
    ],
)
def test_a_wrong_argument_is_refused_without_repeating_it(text: str) -> None:
    """The message says what was expected, and shows neither key nor URL: there may be a secret in it."""
    with pytest.raises(UsageError, match="witness: expected") as refused:
        parse_witness(text)
    assert "hunter2" not in str(refused.value)
    assert str(refused.value).isascii()


def test_a_witness_shows_no_secret() -> None:
    """Neither its repr nor what goes wrong shows a path or a password; the password is sent."""
    seen: list[Request] = []

    def respond(request: Request) -> Reply:
        seen.append(request)
        return Reply(500)

    with serve(respond) as server:
        url = server.url.replace("://", "://ana:hunter2@") + "/hunter2"
        witness = parse_witness(f"{KEY}={url}")
        with pytest.raises(AnchorFailed) as refused:
            request_cosignature(witness, LOG.sign(3), LOG.prove(3))
    assert "hunter2" not in repr(witness) + str(refused.value) + repr(witness.find_endpoint())
    assert seen[0].headers["Authorization"] == "Basic YW5hOmh1bnRlcjI="
    assert seen[0].path == "/hunter2/add-checkpoint"
