"""Real servers on loopback, for one test each: one that speaks HTTP, and one that says whatever bytes it likes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET_PATH = "/services/T0PSECRET/B0?token=hunter2"
"""Path and query of a webhook that nobody may see."""


@dataclass(frozen=True)
class Request:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """A running server, and what it was asked so far."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def serve(respond: Callable[[Request], Reply], certificate: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Answer requests over HTTP, or over TLS with a certificate, until the end of the ``with``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Request(self.command, self.path, dict(self.headers.items()), body)
            server.requests.append(request)
            reply = respond(request)
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: what a test prints is what it is about."""

    class Listener(ThreadingHTTPServer):
        # Whoever leaves early is waited for, and whoever breaks a connection is the matter of some test.
        daemon_threads = False

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up, or doesn't like the certificate, is no error of the server's."""

    listener = Listener(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        scheme = "https"
        listener.socket = certificate.wrap_socket(listener.socket, server_side=True)
    server = Server(f"{scheme}://127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@contextmanager
def serve_bytes(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Let a function talk to each connection, once the request's header has come; gives the URL.

    The event that it gets is set at the end of the ``with``: a function that goes on for ever waits for it.
    """
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # The client may well hang up in the middle.
            with connection, suppress(OSError):
                connection.settimeout(30)
                received = b""
                while b"\r\n\r\n" not in received:
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    received += piece
                talk(connection, ended)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def closed_port() -> Iterator[str]:
    """An URL of this machine at which nobody listens, though the port is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
