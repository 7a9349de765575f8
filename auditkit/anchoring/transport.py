"""One request to one server, and what comes back within bounds: the network as checkpoints use it.

| rule | reason |
|---|---|
| a certificate is verified, by the system's authorities (or those of ``SSL_CERT_FILE``) | else anybody could answer |
| ``http://`` only to this machine, unless a caller knows that the answer is signed | the same |
| no redirect is followed | a request goes where its user said, and nowhere else |
| proxies of the environment aren't used | the same; a server that needs one can't be reached |
| the whole call has one deadline, from connecting to the last byte | a slow server must not hold up a sealing |
| an answer is read up to a limit | an endless one must not fill the memory |
| nothing of an URL but scheme and host is ever shown | the rest may be a password: Slack's hooks are one |

Only looking up a host's name isn't bounded, as the system doesn't offer it. Everything that goes wrong is an
`AnchorFailed`, which says whether it is worth trying again.

Sources: RFC 9110 (HTTP), RFC 3986 (URLs), RFC 7617 (the name and password in an URL).
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from auditkit.anchoring.failures import AnchorFailed
from auditkit.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["MAX_ANSWER_BYTES", "Answer", "Endpoint", "parse_endpoint", "post_body"]

MAX_ANSWER_BYTES: Final = 64 << 10
"""Longest answer that is read."""

_PRINTABLE = re.compile(r"[!-~]+")
_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Endpoint:
    """Where requests go; ``str()`` and ``repr()`` show the scheme and the host, never what may be a secret.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Name or address of the host, without brackets.
        port: The port.
        target: Path and query of the URL.
        authorization: Value of the ``Authorization`` header for the name and password in the URL, or empty.
    """

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == _PORTS[self.scheme]
        return f"{self.scheme}://{host}" + ("" if usual else f":{self.port}")


_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        status: The status code.
        content_type: The media type in lower case, without parameters; empty if there was none.
        retry_after_s: How many seconds the server asks to wait; None if it didn't say so in seconds.
        body: The body, empty if none was asked for.
    """

    status: int
    content_type: str
    retry_after_s: int | None
    body: bytes = field(repr=False)


def parse_endpoint(url: str, what: str, *, suffix: str = "", plain: bool = False) -> Endpoint:
    """Read an URL, strictly.

    Args:
        url: The URL, in ASCII. A name and password in it are sent as HTTP's basic authorization.
        what: Whose URL it is, for the message, which shows nothing of the URL.
        suffix: Appended to the URL's path.
        plain: Whether ``http://`` may lead to other machines, because what comes back is signed.

    Returns:
        The endpoint.

    Raises:
        UsageError: If it isn't an ``https`` URL, or one of ``http`` that doesn't lead to this machine.

    Example:
        >>> print(parse_endpoint("https://ana:secret@hooks.example/T1/secret", "webhook"))
        https://hooks.example
        >>> parse_endpoint("http://hooks.example/T1/secret", "webhook")
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: webhook: expected an URL of https (http only to this machine, as localhost or ...
    """
    # The parser of the standard library drops some characters and takes others as they are: these first.
    if not _PRINTABLE.fullmatch(url):
        raise UsageError(
            f"{what}: expected an URL in printable ASCII without spaces, found {len(url)} other characters"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # as looking it up will do
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.scheme not in _PORTS or not host or port == 0:
        raise UsageError(f"{what}: expected an URL like https://host/path, found {len(url)} characters of another form")
    if "#" in url:
        raise UsageError(f"{what}: expected an URL without #, which is never sent, found one")
    if parts.scheme == "http" and not plain and not _is_loopback(host):
        raise UsageError(
            f"{what}: expected an URL of https (http only to this machine, as localhost or 127.0.0.1), found http to "
            "another host: whoever is on the way could answer"
        )
    authorization = ""
    if parts.username is not None or parts.password is not None:
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    path = parts.path.rstrip("/") + suffix if suffix else parts.path or "/"
    target = path + (f"?{parts.query}" if parts.query else "")
    return Endpoint(parts.scheme, host, port or _PORTS[parts.scheme], target, authorization)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def post_body(
    endpoint: Endpoint,
    body: bytes,
    content_type: str,
    what: str,
    *,
    timeout_s: float,
    limit: int = MAX_ANSWER_BYTES,
) -> Answer:
    """POST a body and read the answer, whatever its status.

    Args:
        endpoint: Where to.
        body: What to send.
        content_type: Its media type.
        what: Who is asked, for the message.
        timeout_s: Longest time for everything together, in seconds.
        limit: Longest body of an answer that is taken, in bytes; 0 reads none of it.

    Returns:
        The answer.

    Raises:
        UsageError: If the time isn't above 0.
        AnchorFailed: If no whole answer came in time, or a longer one.
    """
    if not timeout_s > 0:
        raise UsageError(f"{what}: expected a timeout above 0 seconds, found {timeout_s}")
    deadline = _Deadline(timeout_s)
    try:
        # Closing twice is no error; the answer may close the connection before its time, or leave it open.
        with _connect(endpoint, deadline) as connected:
            return _exchange(endpoint, connected, deadline, body, content_type, limit)
    except TimeoutError as error:
        raise AnchorFailed(
            f"{what}: expected an answer of {endpoint} within {timeout_s:g} s, found none: try again later, or allow "
            "more time",
            transient=True,
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise AnchorFailed(
            f"{what}: expected a certificate of {endpoint} that the system's authorities vouch for, found: "
            f"{error.verify_message}: name the host as its certificate does, or give a private authority's certificate "
            "in SSL_CERT_FILE"
        ) from error
    except OSError as error:
        raise AnchorFailed(
            f"{what}: expected an answer of {endpoint}, found: {_describe(error)}: see whether the host and the "
            "network are up, and whether the URL is right",
            transient=True,
        ) from error
    except http.client.HTTPException as error:
        # Its text quotes what the server sent, at any length: the class says enough.
        raise AnchorFailed(
            f"{what}: expected an answer of {endpoint} in HTTP, found something else ({type(error).__name__}): see "
            "whether the URL is right",
            transient=isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead),
        ) from None
    except _TooLong:
        raise AnchorFailed(
            f"{what}: expected an answer of at most {limit:,} bytes of {endpoint}, found a longer one: see whether the "
            "URL is right"
        ) from None


class _TooLong(Exception):
    """The answer is longer than it may be."""


class _Deadline:
    """One moment by which all must be done, since a socket's own timeout begins anew with each byte."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the time is over")
        return remaining


class _Reader(io.RawIOBase):
    """Reads from a socket until the deadline."""

    def __init__(self, connected: socket.socket, deadline: _Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._socket.settimeout(self._deadline.remaining_s())
        return self._socket.recv_into(memoryview(buffer))


class _Connection(http.client.HTTPConnection):
    """HTTP over a connection that is there already."""

    def __init__(self, endpoint: Endpoint, connected: socket.socket, deadline: _Deadline) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self.default_port = _PORTS[endpoint.scheme]  # so that the Host header leaves out the usual one
        self.sock = _Bounded(connected, deadline)


class _Bounded:
    """As much of a socket as `http.client` uses."""

    def __init__(self, connected: socket.socket, deadline: _Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, data: ReadableBuffer) -> None:
        self._socket.settimeout(self._deadline.remaining_s())
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._socket, self._deadline))

    def close(self) -> None:
        """Leave the socket to whoever opened it."""


def _connect(endpoint: Endpoint, deadline: _Deadline) -> socket.socket:
    failure: OSError | None = None
    for *_, address in socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM):
        try:
            connected = socket.create_connection((str(address[0]), int(address[1])), deadline.remaining_s())
        except TimeoutError:
            raise
        except OSError as error:
            failure = error
            continue
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if endpoint.scheme == "http":
                return connected
            connected.settimeout(deadline.remaining_s())
            return ssl.create_default_context().wrap_socket(connected, server_hostname=endpoint.host)
        except BaseException:
            connected.close()
            raise
    raise failure or OSError("the host has no address")


def _exchange(
    endpoint: Endpoint, connected: socket.socket, deadline: _Deadline, body: bytes, content_type: str, limit: int
) -> Answer:
    headers = {"Content-Type": content_type, "User-Agent": "auditkit", "Connection": "close"}
    if endpoint.authorization:
        headers["Authorization"] = endpoint.authorization
    connection = _Connection(endpoint, connected, deadline)
    connection.request("POST", endpoint.target, body, headers)
    with connection.getresponse() as response:
        content = _read_body(response, limit) if limit else b""
        wait = response.getheader("Retry-After", "").strip()
        return Answer(
            response.status,
            response.getheader("Content-Type", "").partition(";")[0].strip().lower(),
            int(wait) if _SECONDS.fullmatch(wait) else None,
            content,
        )


def _read_body(response: http.client.HTTPResponse, limit: int) -> bytes:
    body = b""
    while piece := response.read(limit + 1 - len(body)):
        body += piece
        if len(body) > limit:
            raise _TooLong
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return body


def _describe(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "no TLS"
    return error.strerror or str(error) or type(error).__name__
