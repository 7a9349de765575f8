"""Time stamps: a real authority's, under certificates that somebody trusts; and everything else."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from auditkit.anchoring.failures import AnchorFailed
from auditkit.anchoring.timestamps import Timestamp, request_timestamp, verify_timestamp
from auditkit.anchoring.transport import parse_endpoint
from auditkit.errors import StoreDamaged, UsageError
from tests.anchoring.authorities import RunningAuthority, make_authority, running_authority
from tests.anchoring.logs import Certificate, Log, make_certificate
from tests.anchoring.servers import Reply, serve

SIGNED = Log().sign(8)


@dataclass(frozen=True)
class Trust:
    """An authority's certificates."""

    root: Certificate
    signer: Certificate


@pytest.fixture(scope="module")
def trust() -> Trust:
    """A root, and a certificate for time stamps under it."""
    root = make_certificate("Example root", authority=True)
    return Trust(root, make_authority("Example TSA", root))


@pytest.fixture
def running(openssl: str, tmp_path: Path, trust: Trust) -> Iterator[RunningAuthority]:
    """An authority by the book."""
    with running_authority(openssl, tmp_path, trust.signer) as authority:
        yield authority


def test_a_time_stamp_of_a_real_authority_verifies(running: RunningAuthority, trust: Trust) -> None:
    """What the authority answered says when the note was there, who says so, and under which number."""
    before = datetime.now(UTC).replace(microsecond=0)
    data = request_timestamp(running.url, SIGNED)
    assert data == running.answers[0]
    stamped = verify_timestamp(data, SIGNED, trust.root.pem)
    assert before <= stamped.time <= datetime.now(UTC)
    assert stamped.time.tzinfo is UTC
    assert stamped == Timestamp(stamped.time, "CN=Example TSA", 0x0B)
    later = verify_timestamp(request_timestamp(running.url, SIGNED), SIGNED, trust.root.pem)
    assert later.serial == 0x0C


def test_the_authority_learns_only_a_hash(running: RunningAuthority) -> None:
    """The note itself doesn't leave, and no two requests are the same, as each has a nonce."""
    for _ in range(2):
        request_timestamp(running.url, SIGNED)
    first, second = running.server.requests
    assert first.body != second.body
    assert b"auditkit" not in first.body
    assert len(first.body) < 100


def test_a_time_stamp_is_of_one_note_only(running: RunningAuthority, trust: Trust) -> None:
    """One more leaf, or one more newline, and it is a time stamp of something else."""
    data = request_timestamp(running.url, SIGNED)
    for other in (Log().sign(9), SIGNED + "\n", ""):
        with pytest.raises(StoreDamaged, match="expected one of this checkpoint, found one of something else"):
            verify_timestamp(data, other, trust.root.pem)


def test_without_certificates_nothing_is_said(running: RunningAuthority, trust: Trust) -> None:
    """Anybody can sign a time stamp under a certificate of their own: so one must say whom to trust."""
    data = request_timestamp(running.url, SIGNED)
    with pytest.raises(UsageError, match="without them anybody could have signed it"):
        verify_timestamp(data, SIGNED, None)
    for roots in (b"", b"root", trust.root.pem[:-30], trust.root.key_pem):
        with pytest.raises(UsageError, match="expected certificates to trust in PEM"):
            verify_timestamp(data, SIGNED, roots)


def test_a_time_stamp_under_another_root_is_not_believed(running: RunningAuthority, trust: Trust) -> None:
    """Not even if the other root has the same name; a bundle of several roots may hold the right one, even twice."""
    data = request_timestamp(running.url, SIGNED)
    other = make_certificate("Example root", authority=True)
    with pytest.raises(StoreDamaged, match="see whether these are the authority's certificates") as refused:
        verify_timestamp(data, SIGNED, other.pem)
    assert str(refused.value).isascii()
    assert len(str(refused.value)) < 500
    assert verify_timestamp(data, SIGNED, other.pem + trust.root.pem * 2).authority == "CN=Example TSA"


def test_a_chain_of_certificates_is_followed(openssl: str, tmp_path: Path, trust: Trust) -> None:
    """An authority under an intermediate one verifies with both certificates, and not with the root's alone."""
    between = make_certificate("Example intermediate", trust.root, authority=True)
    with running_authority(openssl, tmp_path, make_authority("Inner TSA", between)) as authority:
        data = request_timestamp(authority.url, SIGNED)
    assert verify_timestamp(data, SIGNED, trust.root.pem + between.pem).authority == "CN=Inner TSA"
    with pytest.raises(StoreDamaged, match="was valid then, found another"):
        verify_timestamp(data, SIGNED, trust.root.pem)


def forge(openssl: str, folder: Path, signer: Certificate, *beside: Certificate) -> bytes:
    """Sign what is in an authority's answer with another certificate, perhaps with more beside it.

    The command ts would refuse to, the command cms doesn't care.
    """
    (folder / "forger.pem").write_bytes(signer.pem)
    (folder / "forger.key").write_bytes(signer.key_pem)
    (folder / "beside.pem").write_bytes(b"".join(each.pem for each in beside))
    sign = ["cms", "-sign", "-in", "info", "-binary", "-nodetach", "-econtent_type", "1.2.840.113549.1.9.16.1.4"]
    sign += ["-signer", "forger.pem", "-inkey", "forger.key", "-outform", "DER", "-out", "forged", "-nosmimecap"]
    if beside:
        sign += ["-certfile", "beside.pem"]
    commands = [
        ["ts", "-reply", "-in", "reply", "-token_out", "-out", "token"],
        ["cms", "-verify", "-noverify", "-inform", "DER", "-in", "token", "-out", "info", "-binary"],
        sign,
        ["ts", "-reply", "-in", "forged", "-token_in", "-out", "answer"],
    ]
    for command in commands:
        done = subprocess.run([openssl, *command], cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
    return (folder / "answer").read_bytes()


def test_only_a_certificate_for_time_stamps_stamps_times(
    openssl: str, tmp_path: Path, running: RunningAuthority, trust: Trust
) -> None:
    """A server's certificate under the same root signs no times, even with the authority's beside it.

    Nor does one that had expired, or one of somebody; but any certificate for time stamps under the root does.
    """
    request_timestamp(running.url, SIGNED)
    good = forge(openssl, tmp_path, make_authority("Second TSA", trust.root))
    assert verify_timestamp(good, SIGNED, trust.root.pem).authority == "CN=Second TSA"
    good = forge(openssl, tmp_path, make_authority("Second TSA", trust.root), trust.signer)
    assert verify_timestamp(good, SIGNED, trust.root.pem).authority == "CN=Second TSA"
    server = make_certificate("A server", trust.root, usage=ExtendedKeyUsageOID.SERVER_AUTH)
    old = make_certificate("Old TSA", trust.root, until=datetime.now(UTC) - timedelta(days=2))
    for signer in (server, old, make_certificate("Somebody")):
        for beside in ([], [trust.signer]):
            forged = forge(openssl, tmp_path, signer, *beside)
            with pytest.raises(StoreDamaged, match="by a certificate for time stamps that was valid then"):
                verify_timestamp(forged, SIGNED, trust.root.pem)


def test_changed_answers_say_the_same_or_nothing(running: RunningAuthority, trust: Trust) -> None:
    """Whatever bytes are changed: it is refused in a message for any terminal, or says what the authority said."""
    data = request_timestamp(running.url, SIGNED)
    told = verify_timestamp(data, SIGNED, trust.root.pem)
    choose = random.Random(3161)
    refused = 0
    changed = [data[:length] for length in range(0, len(data), 7)] + [data + b"x", data * 2]
    for _ in range(1500):
        mutant = bytearray(data)
        for _ in range(choose.choice([1, 1, 2, 4])):
            mutant[choose.randrange(len(data))] = choose.randrange(256)
        changed.append(bytes(mutant))
    for each in changed:
        try:
            said = verify_timestamp(each, SIGNED, trust.root.pem)
        except StoreDamaged as error:
            message = str(error)
        else:
            assert said == told
            continue
        assert message.isascii()
        assert message.isprintable()
        refused += 1
    assert refused > 1200


@pytest.mark.parametrize("data", [b"", b"time", bytes(500), bytes.fromhex("30053003020100"), b"<html>\xff</html>"])
def test_what_is_no_time_stamp_is_refused(data: bytes, trust: Trust) -> None:
    """Other files, and a granted answer without any token, are refused by their form; so are they as answers."""
    with pytest.raises(StoreDamaged, match="expected an answer of RFC 3161 in DER"):
        verify_timestamp(data, SIGNED, trust.root.pem)
    with serve(lambda _: Reply(200, data)) as server:
        with pytest.raises(AnchorFailed, match="expected an answer of RFC 3161 in DER") as refused:
            request_timestamp(server.url + "/secret", SIGNED)
        assert server.url in str(refused.value)
        assert "secret" not in str(refused.value)


def test_a_refusal_is_no_time_stamp(openssl: str, tmp_path: Path, trust: Trust) -> None:
    """An authority that stamps no such hash says so, which is reported and not kept."""
    with (
        running_authority(openssl, tmp_path, trust.signer, digests="sha512") as authority,
        pytest.raises(AnchorFailed, match=r"granted \(status 0\), found status 2"),
    ):
        request_timestamp(authority.url, SIGNED)
    with pytest.raises(StoreDamaged, match=r"granted \(status 0\), found status 2"):
        verify_timestamp(authority.answers[0], SIGNED, trust.root.pem)


def test_an_old_answer_is_not_taken_for_a_new_one(openssl: str, tmp_path: Path, trust: Trust) -> None:
    """Who repeats an answer of yesterday to a request of today is found by the nonce; one for another note, by hash."""
    kept: list[bytes] = []

    def repeat(answer: bytes) -> bytes:
        kept.append(answer)
        return kept[0]

    with running_authority(openssl, tmp_path, trust.signer, change=repeat) as authority:
        request_timestamp(authority.url, SIGNED)
        with pytest.raises(AnchorFailed, match="found one to another: somebody is repeating old answers"):
            request_timestamp(authority.url, SIGNED)
        with pytest.raises(AnchorFailed, match="expected one of this checkpoint, found one of something else"):
            request_timestamp(authority.url, Log().sign(9))


@pytest.mark.parametrize(
    "status, message, transient",
    [(301, "redirects aren't followed", False), (404, "whether the URL is right", False), (503, "again later", True)],
)
def test_other_statuses_are_failures(status: int, message: str, transient: bool) -> None:
    """No time stamp comes with another status than 200."""
    with serve(lambda _: Reply(status)) as server, pytest.raises(AnchorFailed, match=message) as refused:
        request_timestamp(server.url, SIGNED)
    assert refused.value.transient is transient


def test_authorities_may_be_asked_over_plain_http() -> None:
    """Many offer nothing else, and what they answer is signed; of other kinds of URL none is taken."""
    url = "http://tsa.example/"
    assert str(parse_endpoint(url, "time stamp authority", plain=True)) == "http://tsa.example"
    for other in ("ftp://127.0.0.1/", "", "tsa.example"):
        with pytest.raises(UsageError, match="time stamp authority: expected an URL"):
            request_timestamp(other, SIGNED)


def test_what_is_missing_is_named_with_its_extra() -> None:
    """Without rfc3161-client the module can be imported, and its use says what to install."""
    program = (
        "import sys; sys.modules['rfc3161_client'] = None\n"
        "from auditkit.anchoring.timestamps import request_timestamp\n"
        "request_timestamp('http://localhost/', 'note')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert 'rfc3161_client is not installed: pip install "auditkit-trail[timestamp]" brings it' in done.stderr
