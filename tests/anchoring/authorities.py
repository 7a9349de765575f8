"""A time stamp authority on loopback: openssl answers, under certificates that were made for the test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.anchoring.logs import Certificate, make_certificate
from tests.anchoring.servers import Reply, Request, Server, serve

SETTINGS = """
[tsa]
serial = {folder}/serial
default_policy = 1.2.3.4.1
digests = {digests}
signer_digest = sha256
accuracy = secs:1
ordering = no
tsa_name = yes
ess_cert_id_chain = no
"""


@dataclass
class RunningAuthority:
    """An authority that listens.

    Attributes:
        server: Where, and what it was asked.
        answers: What openssl answered, in DER.
    """

    server: Server
    answers: list[bytes]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.server.url}/tsr"


def make_authority(name: str, issuer: Certificate) -> Certificate:
    """Make a certificate for time stamps. Its key is of RSA, as that of most authorities is."""
    return make_certificate(name, issuer, key=rsa.generate_private_key(65537, 2048))


@contextmanager
def running_authority(
    openssl: str,
    folder: Path,
    signer: Certificate,
    *,
    digests: str = "sha256",
    change: Callable[[bytes], bytes] = lambda answer: answer,
) -> Iterator[RunningAuthority]:
    """Run an authority that signs with this certificate until the end of the ``with``.

    Args:
        openssl: Path of the tool.
        folder: Where its files go.
        signer: Its certificate for time stamps, with the key.
        digests: Which kinds of hash it stamps.
        change: What is done to each answer on its way.
    """
    answers: list[bytes] = []
    (folder / "serial").write_text("0A\n")
    (folder / "settings").write_text(SETTINGS.format(folder=folder, digests=digests))
    (folder / "signer.pem").write_bytes(signer.pem)
    (folder / "signer.key").write_bytes(signer.key_pem)

    def respond(request: Request) -> Reply:
        if request.headers["Content-Type"] != "application/timestamp-query":
            return Reply(415)
        (folder / "query").write_bytes(request.body)
        command = [openssl, "ts", "-reply", "-config", "settings", "-section", "tsa", "-queryfile", "query"]
        command += ["-signer", "signer.pem", "-inkey", "signer.key", "-out", "reply"]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        answers.append((folder / "reply").read_bytes())
        return Reply(200, change(answers[-1]), {"Content-Type": "application/timestamp-reply"})

    with serve(respond) as server:
        yield RunningAuthority(server, answers)
