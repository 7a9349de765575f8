"""Webhooks: a checkpoint arrives whole, is tried again where that may help, and the URL is never shown."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import traceback

import pytest

from auditkit import note
from auditkit.anchoring.copies import find_checkpoints
from auditkit.anchoring.failures import AnchorFailed
from auditkit.anchoring.webhook import post_checkpoint
from auditkit.errors import StoreDamaged, UsageError
from tests.anchoring.logs import ORIGIN, Log
from tests.anchoring.servers import SECRET_PATH, Reply, closed_port, serve, serve_bytes

SIGNED = Log().sign(8)


def post(url: str, *, timeout_s: float = 5) -> None:
    post_checkpoint(url + SECRET_PATH, SIGNED, store="3f9a1cmq7hd2k5wz", timeout_s=timeout_s)


def test_a_checkpoint_arrives_and_can_be_read_again() -> None:
    """The body says in plain fields what the signed note says, and whoever keeps it can verify with it."""
    with serve(lambda _: Reply(204)) as server:
        post(server.url)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", SECRET_PATH)
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == {
        "auditkit": "checkpoint",
        "store": "3f9a1cmq7hd2k5wz",
        "size": 8,
        "root": base64.b64encode(Log().root(8)).decode(),
        "checkpoint": SIGNED,
    }
    assert find_checkpoints(request.body, ORIGIN) == [note.parse_note(SIGNED)]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_cannot_now_is_asked_again(status: int) -> None:
    """The same body arrives with the third try."""
    replies = iter([Reply(status), Reply(status), Reply(200, b"ok")])
    with serve(lambda _: next(replies)) as server:
        post(server.url)
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests}) == 1


def test_a_server_that_never_can_is_given_up() -> None:
    """Three tries, and the message says which status came and that it may pass."""
    with serve(lambda _: Reply(503)) as server, pytest.raises(AnchorFailed, match="found 503") as refused:
        post(server.url)
    assert len(server.requests) == 3
    assert refused.value.transient


@pytest.mark.parametrize("status", [300, 301, 307, 400, 401, 403, 404, 410, 413, 422])
def test_what_is_refused_is_not_sent_again(status: int) -> None:
    """No redirect is followed, and no client's fault is repeated."""
    with (
        serve(lambda request: Reply(status, headers={"Location": request.path})) as server,
        pytest.raises(AnchorFailed, match=f"found {status}") as refused,
    ):
        post(server.url)
    assert len(server.requests) == 1
    assert not refused.value.transient


def test_the_server_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wish is followed up to five seconds, and otherwise a half and a whole second pass."""
    waited: list[float] = []
    monkeypatch.setattr("auditkit.anchoring.webhook.time.sleep", waited.append)
    replies = iter([Reply(429, headers={"Retry-After": "2"}), Reply(429, headers={"Retry-After": "99999"}), Reply()])
    with serve(lambda _: next(replies)) as server:
        post(server.url)
    replies = iter([Reply(500), Reply(502, headers={"Retry-After": "soon"}), Reply()])
    with serve(lambda _: next(replies)) as server:
        post(server.url)
    assert waited == [2, 5, 0.5, 1.0]


def test_a_lost_answer_is_asked_for_again() -> None:
    """A connection that breaks before the answer, or is refused, is tried three times in all."""
    seen = []

    def talk(connection: socket.socket, _: threading.Event) -> None:
        seen.append(1)
        if len(seen) == 3:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serve_bytes(talk) as url:
        post(url)
    assert len(seen) == 3
    with closed_port() as url, pytest.raises(AnchorFailed, match="Connection refused"):
        post(url)


def test_what_another_try_cannot_help_is_not_tried_again() -> None:
    """A server that doesn't speak HTTP won't learn it in a second."""
    seen = []

    def talk(connection: socket.socket, _: threading.Event) -> None:
        seen.append(1)
        connection.sendall(b"220 mail.example ESMTP\r\n")

    with serve_bytes(talk) as url, pytest.raises(AnchorFailed, match="in HTTP, found something else") as refused:
        post(url)
    assert len(seen) == 1
    assert not refused.value.transient


def test_what_comes_with_the_answer_does_not_matter() -> None:
    """The status says whether it arrived; an endless page behind it is not read."""

    def talk(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 201 Created\r\n\r\n")
        while not ended.is_set():
            connection.sendall(b"x" * 65536)

    with serve_bytes(talk) as url:
        post(url)


def test_a_silent_server_has_its_time_three_times_over() -> None:
    """Each try ends by its own deadline."""
    tries = []

    def wait(_: socket.socket, ended: threading.Event) -> None:
        tries.append(1)
        ended.wait(0.2)

    with serve_bytes(wait) as url, pytest.raises(AnchorFailed, match=r"within 0\.1 s"):
        post(url, timeout_s=0.1)
    assert len(tries) == 3


def test_the_secret_in_the_url_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Not in a message, not in a traceback, not in a log: the host is all that is said."""
    caplog.set_level(logging.DEBUG)
    texts = []
    with serve(lambda _: Reply(404)) as server, serve_bytes(lambda c, _: c.sendall(b"junk\r\n\r\n")) as junk:
        urls = [server.url, server.url.replace("://", "://ana:hunter2@"), junk, server.url.replace("http", "https")]
        for url in urls:
            with pytest.raises(AnchorFailed) as refused:
                post(url, timeout_s=5)
            texts.append("".join(traceback.format_exception(refused.value)))
            assert "127.0.0.1" in str(refused.value)
    for url in ("http://h.example", "https://h.example\n", "https://[::1", "//h.example", "https://h.example/é"):
        with pytest.raises(UsageError, match="webhook: expected an URL") as misused:
            post(url)
        texts.append("".join(traceback.format_exception(misused.value)))
    for text in (*texts, caplog.text):
        for secret in ("T0PSECRET", "hunter2", "YW5h"):
            assert secret not in text


def test_what_is_no_checkpoint_is_not_sent() -> None:
    """A note without a checkpoint, or one without a signature, leaves nothing."""
    with serve(lambda _: Reply()) as server:
        for broken in (SIGNED.partition("\n\n")[0] + "\n", note.sign_note("hello\n", ORIGIN, bytes(32))):
            with pytest.raises(StoreDamaged):
                post_checkpoint(server.url, broken, store="x")
    assert server.requests == []
