"""Helpers: child processes that prove slices of segments, see `auditkit.integrity.proving`.

A helper is spoken to over a socket that is its standard input, in frames: four bytes that tell the length, then JSON.
It says who it is before it is given anything, so that whatever else was started in its place gets no key.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from typing import Final, Generic, Protocol, TypeVar

import orjson

from auditkit.errors import explain_missing
from auditkit.integrity.walks import Piece, Proof, Slice, prove_slice
from auditkit.interpreter import make_environment
from auditkit.store import engine
from auditkit.store.runs import Run

try:
    import pyarrow as pa
except ModuleNotFoundError as error:
    raise explain_missing(error, "seal") from error

FAREWELL_SECONDS: Final = 2.0
"""How long a helper may take to leave."""

READY_ROWS: Final = 65_536
"""How many rows a helper has before it at least, unless it has only just been given some."""

MAX_FRAME: Final = 64 << 20
_HELLO: Final = b"auditkit proving 1"
_PROGRAM: Final = "from auditkit.integrity.helpers import help_proving; help_proving()"


class Task(Protocol):
    """What a helper is given: a slice, and whatever its giver knows of it besides."""

    @property
    def slice(self) -> Slice:
        """The slice to prove."""


T = TypeVar("T", bound=Task)


class Helper(Generic[T]):
    """A child process that proves slices. Whatever becomes of it, it is `lost` at worst.

    Attributes:
        tasks: What it was given and hasn't answered, by number, in the order it was given.
        lost: Whether nothing is to be expected of it any more.
    """

    def __init__(self) -> None:
        self.tasks: dict[int, T] = {}
        self.lost = True
        self._greeted = False
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._given = 0

    def start(self, python: str) -> None:
        """Start the process; it isn't waited for."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._socket.setblocking(False)
            try:
                self._child = subprocess.Popen(
                    [python, "-P", "-c", _PROGRAM],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_make_environment(python),
                    # Ctrl-C in a terminal is for the verifier, which then lets it go.
                    process_group=0,
                )
            except OSError:
                self._socket.close()
                return  # all is proved here
        self.lost = False

    @property
    def hungry(self) -> bool:
        """Whether it should be given more: one slice that it works on, and one that lies ready, or many small ones."""
        rows = sum(task.slice.rows for task in self.tasks.values())
        return self._greeted and not self.lost and (len(self.tasks) < 2 or rows < READY_ROWS)

    def give(self, task: T) -> None:
        """Give it a slice, as far as it takes it now; the rest is sent with a later `collect`."""
        self._given += 1
        self.tasks[self._given] = task
        self._outgoing += _frame(_format_task(self._given, task.slice))
        self._send()

    def collect(self) -> list[tuple[T, Proof | None]]:
        """Give what it has answered; nothing is waited for."""
        answers = []
        self._send()
        while not self.lost and (data := self._receive()):
            self._incoming += data
        while not self.lost and (frame := _cut_frame(self._incoming)) is not None:
            if not self._greeted:
                self._greeted = frame == _HELLO
                self.lost = not self._greeted
                continue
            answer = _parse_answer(frame)
            if answer is None:
                self.lost = True
            elif answer[0] in self.tasks:
                answers.append((self.tasks.pop(answer[0]), answer[1]))
        if len(self._incoming) > MAX_FRAME:
            self.lost = True
        return answers

    def wait(self, seconds: float) -> bool:
        """Wait until it has something to say, or has room to be told something; tells whether that is so."""
        if self.lost or self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        return bool(poll.poll(seconds * 1e3))

    def _send(self) -> None:
        if self._outgoing and self._socket is not None and not self.lost:
            try:
                sent = self._socket.send(self._outgoing, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self.lost = True
                return
            del self._outgoing[:sent]

    def _receive(self) -> bytes:
        assert self._socket is not None
        try:
            data = self._socket.recv(1 << 20)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.lost = True
        return data

    def dismiss(self) -> None:
        """End it at once: it doesn't answer."""
        self.lost = True
        if self._child is not None:
            self._child.kill()

    def leave(self) -> None:
        """Let it go; it isn't waited for."""
        self.lost = True
        if self._socket is not None:
            self._socket.close()

    def close(self) -> None:
        """Let it go, and wait until it is gone."""
        self.leave()
        if self._child is None:
            return
        try:
            if self.tasks or not self._greeted:
                self._child.terminate()
            self._child.wait(FAREWELL_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        except BaseException:
            self._child.kill()
            raise


def _make_environment(python: str) -> dict[str, str]:
    """Make a helper's environment, with no settings and no secret of ours."""
    given = make_environment(python)
    return {name: value for name, value in given.items() if not name.startswith("AUDITKIT_")}


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _cut_frame(data: bytearray) -> bytes | None:
    """Cut a complete frame off the beginning of what came in; None as long as there is none."""
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < 4 or len(data) < end:
        return None
    frame = bytes(data[4:end])
    del data[:end]
    return frame


def _format_task(number: int, task: Slice) -> bytes:
    runs = [[r.writer, r.first, r.last, r.prev and r.prev.hex(), r.link.hex(), r.closed, r.next] for r in task.runs]
    keys = {writer: key.hex() for writer, key in task.keys.items()}
    return orjson.dumps([
        number, task.path, task.store, task.start_us, task.groups, task.rows, task.first_leaf, runs, keys
    ])  # fmt: skip


def _parse_task(frame: bytes) -> tuple[int, Slice]:
    number, path, store, start_us, groups, rows, first_leaf, listed, keys = orjson.loads(frame)
    runs = tuple(
        Run(writer, first, last, prev if prev is None else bytes.fromhex(prev), bytes.fromhex(link), closed, following)
        for writer, first, last, prev, link, closed, following in listed
    )
    opened = {writer: bytes.fromhex(key) for writer, key in keys.items()}
    return number, Slice(path, store, start_us, tuple(groups), rows, first_leaf, runs, opened)


def _format_answer(number: int, proof: Proof | None) -> bytes:
    if proof is None:
        return orjson.dumps([number, None])
    pieces = [[*piece[:5], piece.link.hex(), piece.details] for piece in proof.pieces]
    opening = None if proof.opening is None else [proof.opening[0].decode(), proof.opening[1]]
    return orjson.dumps([number, [proof.rows, [node.hex() for node in proof.nodes], pieces, opening]])


def _parse_answer(frame: bytes) -> tuple[int, Proof | None] | None:
    """Read a helper's answer; None if it is none."""
    try:
        number, found = orjson.loads(frame)
        if found is None:
            return int(number), None
        rows, nodes, listed, opening = found
        pieces = [
            Piece(int(run), int(first), int(last), int(following), [*map(int, epochs)], bytes.fromhex(link), details)
            for run, first, last, following, epochs, link, details in listed
        ]
        if not all(piece.epochs and isinstance(piece.details, str | None) for piece in pieces):
            return None
        line = None if opening is None else (opening[0].encode(), int(opening[1]))
        return int(number), Proof(int(rows), [*map(bytes.fromhex, nodes)], pieces, line)
    except (ValueError, TypeError, AttributeError, IndexError):
        return None


def help_proving() -> None:
    """Prove slices as a child process, as long as standard input brings some."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The engine's folder goes at an orderly end only.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with socket.socket(fileno=os.dup(0)) as channel, engine.connect() as connection:
        engine.limit_threads(1)
        channel.sendall(_frame(_HELLO))
        while (frame := _await_frame(channel)) is not None:
            number, task = _parse_task(frame)
            try:
                channel.sendall(_frame(_format_answer(number, prove_slice(task, connection))))
            except (BrokenPipeError, ConnectionResetError):
                return  # nobody wants to know any more


def _await_frame(channel: socket.socket) -> bytes | None:
    data = bytearray()
    size = 4
    while len(data) < size:
        more = channel.recv(size - len(data))
        if not more:
            return None
        data += more
        if len(data) == 4:
            size += int.from_bytes(data, "big")
    return bytes(data[4:])
