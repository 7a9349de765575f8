"""The network: certificates are verified, secrets are sent and never shown, and everything has an end."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from auditkit.anchoring.failures import AnchorFailed
from auditkit.anchoring.transport import Answer, parse_endpoint, post_body
from auditkit.errors import UsageError
from tests.anchoring.logs import Certificate, make_certificate
from tests.anchoring.servers import Reply, Server, serve, serve_bytes


def post(url: str, *, timeout_s: float = 10, limit: int = 1000) -> Answer:
    return post_body(parse_endpoint(url, "test"), b"body", "text/plain", "test", timeout_s=timeout_s, limit=limit)


@contextmanager
def serve_securely(folder: Path, certificate: Certificate) -> Iterator[Server]:
    """Serve over TLS with this certificate."""
    chain = folder / "server.pem"
    chain.write_bytes(certificate.pem + certificate.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    with serve(lambda request: Reply(200, request.body), context) as server:
        yield server


def test_a_certificate_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a server whose certificate nobody vouches for nothing is taken; its authority can be given."""
    authority = make_certificate("A private authority", authority=True)
    server = make_certificate("server", authority, usage=ExtendedKeyUsageOID.SERVER_AUTH)
    (tmp_path / "authority.pem").write_bytes(authority.pem)
    with serve_securely(tmp_path, server) as running:
        with pytest.raises(AnchorFailed, match="unable to get local issuer certificate: name the host") as refused:
            post(running.url)
        assert not refused.value.transient
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert post(running.url).body == b"body"
        assert post(running.url.replace("127.0.0.1", "localhost")).body == b"body"
        assert [request.body for request in running.requests] == [b"body", b"body"]


def test_a_certificate_of_another_host_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a certificate for one host can't answer for another, though the same authority vouches for both."""
    authority = make_certificate("A private authority", authority=True)
    server = make_certificate("server", authority, usage=ExtendedKeyUsageOID.SERVER_AUTH, hosts=("other.example",))
    (tmp_path / "authority.pem").write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with serve_securely(tmp_path, server) as running:
        with pytest.raises(AnchorFailed, match="IP address mismatch"):
            post(running.url)
        with pytest.raises(AnchorFailed, match="Hostname mismatch"):
            post(running.url.replace("127.0.0.1", "localhost"))
        assert running.requests == []


def test_a_server_without_tls_is_not_spoken_to_over_it() -> None:
    """An https URL of a server that speaks plain HTTP is a failure, and no request goes out in the clear."""
    with serve(lambda _: Reply()) as server:
        with pytest.raises(AnchorFailed, match="test: expected an answer of https://127"):
            post(server.url.replace("http", "https"))
        assert server.requests == []


def test_a_server_that_only_accepts_is_given_up() -> None:
    """The handshake has the same deadline as everything else."""

    def wait(_: socket.socket, ended: threading.Event) -> None:
        ended.wait(10)

    with serve_bytes(wait) as url, pytest.raises(AnchorFailed, match=r"within 0\.3 s") as refused:
        post(url.replace("http", "https"), timeout_s=0.3)
    assert refused.value.transient


def test_headers_say_who_asks_and_nothing_of_the_machine() -> None:
    """What is sent is what is needed, and the host as the URL names it."""
    with serve(lambda _: Reply()) as server:
        post(server.url + "/a?b=c")
    (request,) = server.requests
    assert request.path == "/a?b=c"
    host = server.url.removeprefix("http://")
    headers = {name: value for name, value in request.headers.items() if name != "Accept-Encoding"}
    assert headers == {
        "Host": host,
        "Content-Length": "4",
        "Content-Type": "text/plain",
        "User-Agent": "auditkit",
        "Connection": "close",
    }


def test_an_answer_is_taken_up_to_its_limit() -> None:
    """Exactly the limit is taken, a byte more isn't, and with no limit at all none is read."""
    with serve(
        lambda _: Reply(200, b"x" * 1000, {"Retry-After": "7", "Content-Type": "Text/HTML; charset=x"})
    ) as server:
        assert post(server.url) == Answer(200, "text/html", 7, b"x" * 1000)
        with pytest.raises(AnchorFailed, match="at most 999 bytes"):
            post(server.url, limit=999)
        assert post(server.url, limit=0).body == b""


@pytest.mark.parametrize("said", ["", "soon", "-1", "1.5", "9" * 10, "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_a_wait_that_is_not_in_seconds_is_not_taken(said: str) -> None:
    """A date needs two clocks that agree; the rest is nothing at all."""
    with serve(lambda _: Reply(503, headers={"Retry-After": said})) as server:
        assert post(server.url).retry_after_s is None


@pytest.mark.parametrize(
    "url, shown",
    [
        ("https://host.example", "https://host.example"),
        ("https://HOST.example:443/secret", "https://host.example"),
        ("https://host.example:8443/secret?secret", "https://host.example:8443"),
        ("https://ana:secret@host.example/", "https://host.example"),
        ("http://localhost/secret", "http://localhost"),
        ("http://127.1.2.3:80/", "http://127.1.2.3"),
        ("http://[::1]:8080/secret", "http://[::1]:8080"),
    ],
)
def test_of_an_url_only_scheme_and_host_are_shown(url: str, shown: str) -> None:
    """Neither str nor repr of where a request goes has the path, the query or the password."""
    endpoint = parse_endpoint(url, "test")
    assert str(endpoint) == shown
    assert "secret" not in repr(endpoint)


@pytest.mark.parametrize(
    "url",
    ["http://host.example/", "http://127.0.0.1.example/", "http://10.0.0.1/", "http://localhost.example/", "http://0/"],
)
def test_plain_http_stays_on_this_machine(url: str) -> None:
    """Names and addresses that only look like this machine's are others."""
    with pytest.raises(UsageError, match="found http to another host"):
        parse_endpoint(url, "test")
    assert parse_endpoint(url, "test", plain=True).scheme == "http"


@given(text=st.one_of(st.text(), st.text("htps:/[]@?#%.:1a"), st.from_regex(r"https?://[!-~]{0,20}")))
def test_any_text_is_an_url_or_refused(text: str) -> None:
    """The only exception is UsageError, which says nothing of the text."""
    try:
        endpoint = parse_endpoint(text, "test", plain=True)
    except UsageError as error:
        message = str(error)
    else:
        assert endpoint.target.startswith("/")
        return
    assert message.startswith("test: expected an URL")
    assert message.isascii()
    assert message.isprintable()
