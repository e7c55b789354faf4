"""The web server of the viewer: loopback only, GET only, a fixed table of paths."""

from __future__ import annotations

import contextlib
import errno
import hmac
import json
import re
import secrets
import select
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, NamedTuple

from zoomkern.viewer.overlays import Look
from zoomkern.viewer.picture import Picture
from zoomkern.viewer.tiles import TILE

HOST = "127.0.0.1"
#: Connections at a time; a browser holds six.
MOST_CONNECTIONS = 64
#: Seconds in which a whole request must have come, from when the connection was opened or the last one was answered.
MOST_WAITING = 10.0
#: Seconds in which a dropped connection makes room.
_DROPPING = 1.0
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

#: Files of the page and their types.
STATIC = {
    "": ("index.html", "text/html; charset=utf-8"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "openseadragon.min.js": ("openseadragon.min.js", "text/javascript; charset=utf-8"),
    "LICENSE.openseadragon.txt": ("LICENSE.openseadragon.txt", "text/plain; charset=utf-8"),
}

#: The one style that OpenSeadragon writes into the page, by its hash.
_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"

#: The page loads nothing from elsewhere, runs no inline code, and stands in no other page.
HEADERS = {
    "Allow": "GET",
    "Content-Security-Policy": f"default-src 'none'; script-src 'self'; style-src 'self' {_STYLE}; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_TILE = re.compile(r"tiles/(\d{1,2})/(\d{1,9})_(\d{1,9})", re.ASCII)
_ATTENTION = re.compile(r"attention/(\d)", re.ASCII)


class Answer(NamedTuple):
    """What a path answers with.

    Args:
        media: its type.
        body: its bytes.
    """

    media: str
    body: bytes


class ViewServer(ThreadingHTTPServer):
    """Serves one image to the browser of this machine.

    The address holds a secret, so that other users of the machine cannot read the image.

    Args:
        picture: the image.
        look: what a network looked at, or None.
        port: 0 for any that is free.

    Attributes:
        url: of the page.

    Raises:
        OSError: the port is in use or not allowed.
    """

    daemon_threads = True
    allow_reuse_port = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, picture: Picture, look: Look | None = None, port: int = 0) -> None:
        self.picture, self.look = picture, look
        self.secret = secrets.token_urlsafe(16)
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._waiting: dict[Any, float] = {}  # connections that owe a request, the oldest first, and since when
        self._lock = threading.Lock()
        files = resources.files("zoomkern.viewer") / "static"
        self.static = {path: Answer(media, (files / name).read_bytes()) for path, (name, media) in STATIC.items()}
        self.static["view.json"] = Answer("application/json", json.dumps(self._view(), allow_nan=False).encode())
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            why = {errno.EADDRINUSE: "it is in use", errno.EACCES: "it is not allowed"}.get(
                error.errno or 0, str(error)
            )
            raise OSError(f"--port {port} cannot be opened: {why}. Choose another, or leave --port out.") from None
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.url = f"http://{HOST}:{self.server_port}/{self.secret}/"

    def server_bind(self) -> None:
        """Bind without asking the network for this machine's name, as the library would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, up to :data:`MOST_CONNECTIONS`.

        Of more, the one that has owed a request for the longest is dropped. Where none does the new one is told to come
        again.
        """
        if self._room.acquire(blocking=False) or (self._drop() and self._room.acquire(timeout=_DROPPING)):
            self.waits(request)
            try:
                super().process_request(request, client_address)
            except BaseException:
                self.has_asked(request)
                self._room.release()
                raise
            return
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.send(_FULL)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers, and makes room again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection, which nobody may drop from now on."""
        self.has_asked(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Drops the connections whose request has not come in :data:`MOST_WAITING`; the server's loop calls it."""
        while self._drop(MOST_WAITING):
            pass

    def waits(self, connection: Any) -> None:
        """A connection owes a request from now on."""
        with self._lock:
            self._waiting.pop(connection, None)
            self._waiting[connection] = time.monotonic()

    def has_asked(self, connection: Any) -> None:
        """A connection owes nothing."""
        with self._lock:
            self._waiting.pop(connection, None)

    def _drop(self, patience: float = 0.0) -> bool:
        """End the wait of the oldest connection that has owed a request for so long; whether there was one."""
        with self._lock:
            oldest = next(iter(self._waiting), None)
            if oldest is None or time.monotonic() - self._waiting[oldest] < patience:
                return False
            del self._waiting[oldest]
            with contextlib.suppress(OSError):  # it has gone by itself
                oldest.shutdown(socket.SHUT_RDWR)  # its thread reads the end, and closes it
            return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is none; others are told in one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            print(f"zoomkern view: {type(error).__name__}: {error}", file=sys.stderr)

    def answer(self, path: str, wanted: Callable[[], bool]) -> Answer | None:
        """What a path below the secret answers with; None where nobody waits for it any more.

        Args:
            path: as it was asked for: nothing in it is decoded, and none is a name of a file.
            wanted: whether somebody still waits.

        Raises:
            LookupError: there is nothing at this path.
            OSError: the image is damaged there.
        """
        if path in self.static:
            return self.static[path]
        if (match := _TILE.fullmatch(path)) is not None:
            level, column, row = (int(number) for number in match.groups())
            data = self.picture.tile(level, column, row, wanted)
            return None if data is None else Answer(self.picture.media, data)
        if self.look is not None and (match := _ATTENTION.fullmatch(path)) is not None:
            return Answer("application/octet-stream", self.look.stages[int(match[1])].grids.tobytes())
        raise LookupError("there is nothing at this address")

    def _view(self) -> dict[str, Any]:
        """What the page needs to know of the image."""
        reader, stretch = self.picture.reader, self.picture.stretch
        return {
            "name": reader.path.name,
            "width": reader.level_dimensions[0][0],
            "height": reader.level_dimensions[0][1],
            "channels": reader.header.channels,
            "type": str(reader.header.dtype).removeprefix("torch."),
            "mpp": reader.mpp,
            "stretch": None
            if stretch is None
            else [list(pair) for pair in zip(stretch.low, stretch.high, strict=True)],
            "tile": TILE,
            "least": self.picture.zoom.least,
            "most": self.picture.zoom.most,
            "look": None if self.look is None else self.look.page(),
        }


class _Handler(BaseHTTPRequestHandler):
    """One connection of the browser."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = 20  # seconds that an answer may take to be fetched
    disable_nagle_algorithm = True
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def handle_one_request(self) -> None:
        """The whole header must come in time, however it comes."""
        self.server.waits(self.connection)
        super().handle_one_request()

    def parse_request(self) -> bool:
        """GET alone is answered, and only where this machine's own name was asked for."""
        whole = super().parse_request()
        self.server.has_asked(self.connection)
        if not whole:
            return False
        if self.command != "GET":
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered")
            return False
        if [host.lower() for host in self.headers.get_all("Host", [])] not in [[host] for host in self.server.hosts]:
            self.send_error(HTTPStatus.FORBIDDEN, "the address must be that of this machine, 127.0.0.1")
            return False
        return True

    def do_GET(self) -> None:
        """Answers from the table of paths."""
        _, _, rest = self.path.partition("/")
        secret, slash, path = rest.partition("/")
        if not (slash and hmac.compare_digest(secret.encode(), self.server.secret.encode())):
            self.send_error(HTTPStatus.NOT_FOUND, "there is nothing at this address")
            return
        try:
            answer = self.server.answer(path, self._waits)
        except LookupError as error:
            self.send_error(HTTPStatus.NOT_FOUND, str(error))
            return
        except OSError as error:
            print(f"zoomkern view: {error}", file=sys.stderr)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the image is damaged here")
            return
        if answer is None:
            self.close_connection = True
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", answer.media)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def end_headers(self) -> None:
        """Every answer, errors too, carries the same headers."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """No versions."""
        return "zoomkern"

    def log_message(self, format: str, *args: Any) -> None:
        """A terminal is not told of every tile."""

    def _waits(self) -> bool:
        """Whether the browser still holds the connection; it drops those of tiles that left the window."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return not readable or bool(self.connection.recv(1, socket.MSG_PEEK))
