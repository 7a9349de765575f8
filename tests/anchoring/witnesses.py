"""A witness, written by its specification alone (c2sp.org/tlog-witness): it shares no code with the client.

``with running_witness([log's verifier key]) as witness:`` serves it on loopback. It reads notes, checks signatures and
cosigns with code of its own, keeps what it has cosigned in a file that is replaced before it answers, and goes on where
it was when it is started again with the same folder.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from auditkit.tree import verify_consistency
from tests.anchoring.servers import Reply, Request, serve

NAME = "witness.example/w1"


@dataclass(frozen=True)
class Latest:
    """The newest checkpoint that a witness has cosigned for a log."""

    size: int
    root: bytes


class RunningWitness:
    """A witness that listens.

    Attributes:
        url: Its submission prefix.
        vkey: Its verifier key, of kind cosignature/v1.
        statuses: The status of each answer so far.
    """

    def __init__(
        self, log_vkeys: Iterable[str], folder: Path, name: str, seed: bytes, clock: Callable[[], float]
    ) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self._state = folder / "witness.json"
        self._lock = threading.Lock()
        self._clock = clock
        self._name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public = b"\x04" + self._key.public_key().public_bytes_raw()
        self._key_id = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
        self.vkey = f"{name}+{self._key_id.hex()}+{base64.b64encode(public).decode()}"
        # A log's keys, by its origin: in auditkit the key has the log's name.
        self._logs: dict[str, list[tuple[bytes, Ed25519PublicKey]]] = {}
        for vkey in log_vkeys:
            log, key_id, encoded = vkey.split("+", 2)
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:])
            self._logs.setdefault(log, []).append((bytes.fromhex(key_id), key))

    def latest(self, origin: str) -> Latest | None:
        """Give the newest checkpoint that was cosigned for a log, None if there is none."""
        found = self._load().get(origin)
        return Latest(found[0], base64.b64decode(found[1])) if found else None

    def respond(self, request: Request) -> Reply:
        """Answer a request, one at a time, as checking and keeping must be one step."""
        with self._lock:
            try:
                reply = self._judge(request)
            except ValueError:  # something in the request isn't UTF-8, base64 or a number
                reply = Reply(400)
        self.statuses.append(reply.status)
        return reply

    def _judge(self, request: Request) -> Reply:
        if request.path != "/w1/add-checkpoint":
            return Reply(404)
        head, _, checkpoint = request.body.decode().partition("\n\n")
        first, *proof_lines = head.split("\n")
        old_line = re.fullmatch(r"old (0|[1-9][0-9]*)", first)
        text, blank, signature_lines = checkpoint.partition("\n\n")
        parts = text.split("\n")
        if not old_line or len(proof_lines) > 63 or not blank or len(parts) < 3:
            return Reply(400)
        old, origin, size, root = int(old_line[1]), parts[0], int(parts[1]), base64.b64decode(parts[2], validate=True)
        proof = [base64.b64decode(line, validate=True) for line in proof_lines]
        text += "\n"
        if origin not in self._logs:
            return Reply(404)
        if not self._is_signed(origin, text, signature_lines):
            return Reply(403)
        if old > size:
            return Reply(400)
        state = self._load()
        known_size, known_root = state.get(origin, (0, ""))
        if old != known_size:
            return Reply(409, f"{known_size}\n".encode(), {"Content-Type": "text/x.tlog.size"})
        if old == size and old > 0 and base64.b64decode(known_root) != root:
            return Reply(409)
        if old == 0 or old == size:
            consistent = not proof
        else:
            consistent = verify_consistency(old, size, proof, base64.b64decode(known_root), root)
        if not consistent:
            return Reply(422)
        state[origin] = (size, base64.b64encode(root).decode())
        self._save(state)
        return Reply(200, self._cosign(text))

    def _is_signed(self, origin: str, text: str, signature_lines: str) -> bool:
        for line in signature_lines.splitlines():
            dash, name, encoded = line.split(" ")
            raw = base64.b64decode(encoded, validate=True)
            for key_id, key in self._logs[origin]:
                if (dash, name, raw[:4]) == ("—", origin, key_id):
                    try:
                        key.verify(raw[4:], text.encode())
                    except InvalidSignature:
                        continue
                    return True
        return False

    def _cosign(self, text: str) -> bytes:
        now = int(self._clock())
        signature = self._key.sign(f"cosignature/v1\ntime {now}\n{text}".encode())
        raw = self._key_id + now.to_bytes(8, "big") + signature
        return f"— {self._name} {base64.b64encode(raw).decode()}\n".encode()

    def _load(self) -> dict[str, tuple[int, str]]:
        if not self._state.exists():
            return {}
        return {origin: (size, root) for origin, (size, root) in json.loads(self._state.read_text()).items()}

    def _save(self, state: dict[str, tuple[int, str]]) -> None:
        beside = self._state.with_suffix(".new")
        with beside.open("w") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._state)


@contextmanager
def running_witness(
    log_vkeys: Iterable[str],
    *,
    folder: Path | None = None,
    name: str = NAME,
    seed: bytes = bytes([7]) * 32,
    clock: Callable[[], float] = time.time,
) -> Iterator[RunningWitness]:
    """Run a witness of these logs on loopback until the end of the ``with``.

    Args:
        log_vkeys: The logs' verifier keys; a store has its own in store.json.
        folder: Where it keeps its state; None for a folder of its own that is removed at the end.
        name: Its name.
        seed: Its secret key.
        clock: Its clock, in seconds since 1970.
    """
    with tempfile.TemporaryDirectory() as own:
        witness = RunningWitness(log_vkeys, folder or Path(own), name, seed, clock)
        with serve(witness.respond) as server:
            witness.url = f"{server.url}/w1"
            yield witness
