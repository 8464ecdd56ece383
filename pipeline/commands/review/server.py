"""Serve a page to this machine's own browser, and to nothing else.

Other web pages in that browser can send requests to 127.0.0.1 too. Three checks refuse these: each
address contains a token that they do not know; the Host must be 127.0.0.1 or localhost, and not a
name that their server resolves to it; a request that changes files must have this page's Origin.
"""

import errno
import json
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from urllib.parse import parse_qsl, urlsplit

from pipeline.core.errors import PipelineError

ADDRESS = "127.0.0.1"
MAX_BODY = 2**20  # bytes of a request
LENGTH = re.compile("[0-9]{1,7}")  # int refuses thousands of digits
SECONDS = 30  # that a connection may be silent
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; script-src 'self'; connect-src 'self'; "
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # the address contains the token
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Reply:
    """A response."""

    content: bytes
    type: str
    status: HTTPStatus = HTTPStatus.OK

    @classmethod
    def of_json(cls, value: object, status: HTTPStatus = HTTPStatus.OK) -> "Reply":
        return cls(json.dumps(value).encode(), "application/json", status)

    @classmethod
    def of_error(cls, message: str, status: HTTPStatus) -> "Reply":
        return cls.of_json({"error": message}, status)


class NotFound(Exception):
    """There is nothing at the address."""


Get = Callable[[str, Mapping[str, str]], Reply]
"""Answers GET: takes the path below the token, without a leading slash, and the query."""
Post = Callable[[str, bytes], Reply]
"""Answers POST: takes the path and the body."""


class PageServer(ThreadingTCPServer):
    """Answers requests to `url` and below it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, get: Get, post: Post) -> None:
        """Listen at once.

        Args:
            port: 0 for any that is free.

        Raises:
            PipelineError: another program listens at the port, or it is reserved.
        """
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
            state = "in use" if error.errno == errno.EADDRINUSE else "reserved for the system"
            raise PipelineError(
                f"port {port} is {state}: choose another with --port, or leave the option out"
            ) from error
        self.get, self.post = get, post
        self.token = secrets.token_urlsafe(24)
        self.port = int(self.server_address[1])
        self.hosts = {f"{name}:{self.port}" for name in (ADDRESS, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.port}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a closed or silent connection; print the traceback of anything else, a bug."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Checks a request, and passes it on."""

    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    server: PageServer

    def do_GET(self) -> None:
        """Answer with what the page needs."""
        self._reply(self._refusal() or self._get())

    def do_POST(self) -> None:
        """Change something."""
        length = self.headers.get("Content-Length", "")
        if not LENGTH.fullmatch(length) or int(length) > MAX_BODY:
            self.close_connection = True  # the body is not read
            self._reply(Reply.of_error("too long", HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
            return
        body = self.rfile.read(int(length))  # also of what is refused, before the next request
        self._reply(self._refusal() or self._refuse_origin() or self._post(body))

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the address contains the token."""

    def version_string(self) -> str:
        """The header Server."""
        return "pipeline"

    def _refusal(self) -> Reply | None:
        """The reply to a request that is not from our page; the first check that fails."""
        if self.headers.get("Host") not in self.server.hosts:
            return Reply.of_error("unknown host", HTTPStatus.MISDIRECTED_REQUEST)
        try:
            token = urlsplit(self.path).path.split("/")[1:2]
        except ValueError:  # such as http://[
            return Reply.of_error("malformed address", HTTPStatus.BAD_REQUEST)
        if not secrets.compare_digest("".join(token).encode(), self.server.token.encode()):
            return Reply.of_error(
                "wrong token: open the address that `pipeline review` printed", HTTPStatus.FORBIDDEN
            )
        return None

    def _refuse_origin(self) -> Reply | None:
        """Refuse a POST of another page: browsers send the page's origin, which must be ours."""
        if self.headers.get("Origin") != f"http://{self.headers['Host']}":
            return Reply.of_error("a request of another page", HTTPStatus.FORBIDDEN)
        if self.headers.get_content_type() != "application/json":
            return Reply.of_error("not JSON", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        return None

    def _get(self) -> Reply:
        query = dict(parse_qsl(urlsplit(self.path).query))
        return self._call(lambda: self.server.get(self._path_below_token(), query))

    def _post(self, body: bytes) -> Reply:
        return self._call(lambda: self.server.post(self._path_below_token(), body))

    def _path_below_token(self) -> str:
        return urlsplit(self.path).path.removeprefix(f"/{self.server.token}/")

    def _call(self, answer: Callable[[], Reply]) -> Reply:
        try:
            return answer()
        except NotFound:
            return Reply.of_error("nothing is here", HTTPStatus.NOT_FOUND)
        except PipelineError as error:
            return Reply.of_error(str(error), HTTPStatus.CONFLICT)
        except OSError as error:
            return Reply.of_error(_describe(error), HTTPStatus.CONFLICT)

    def _reply(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{reply.type}; charset=utf-8")
        self.send_header("Content-Length", str(len(reply.content)))
        self.end_headers()
        self.wfile.write(reply.content)


def _describe(error: OSError) -> str:
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text
