"""Who may ask: checks of the headers, before a body is read; and the headers of all replies."""

import secrets
import time
from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.commands.serve.limits import Refusal
from pipeline.commands.serve.metrics import Metrics

LOOPBACK = frozenset(["127.0.0.1", "localhost", "[::1]"])
OPEN = frozenset(["/", "/serve.js", "/healthz", "/readyz"])  # what needs no token
PATHS = OPEN | {"/predict", "/feedback", "/gradcam", "/training-image", "/metrics", "/openapi.json"}
OTHER = "other"  # metrics name no path that a client made up
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' blob: data:; script-src 'self'; connect-src 'self'; "
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Access:
    """Refuses requests without the token, for another host, or from another site's page."""

    def __init__(
        self, app: ASGIApp, token: str | None, hosts: Collection[str] | None, metrics: Metrics
    ) -> None:
        """
        Args:
            token: That a client must send; None if it needs none.
            hosts: Names that the server has in Host headers, without a port; None for any.
        """
        self._app, self._metrics = app, metrics
        self._token = None if token is None else token.encode()
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, path = time.monotonic(), scope["path"]

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
                seconds = time.monotonic() - start
                name = path if path in PATHS else OTHER
                self._metrics.count_request(name, message["status"], seconds)
            await send(message)

        try:
            self._check(path, Headers(scope=scope))
        except Refusal as refusal:
            await reply(refusal)(scope, receive, send_counted)
        else:
            await self._app(scope, receive, send_counted)

    def _check(self, path: str, headers: Headers) -> None:
        """Raise Refusal for a request that may not ask."""
        # Another site may let its name resolve to this machine (DNS rebinding).
        hosts = {_without_port(host) for host in headers.getlist("Host")}
        if self._hosts is not None and not (hosts and hosts <= set(self._hosts)):
            raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, "unknown host")
        # Browsers tell whose page asks. Others send nothing.
        if headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"} and path != "/":
            raise Refusal(HTTPStatus.FORBIDDEN, "a request of another site's page")
        if self._token is None or path in OPEN:
            return
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        is_right = secrets.compare_digest(token.strip().encode(), self._token)
        if scheme.lower() != "bearer" or not is_right:
            message = "send the header Authorization: Bearer TOKEN, with the server's token"
            raise Refusal(HTTPStatus.UNAUTHORIZED, message)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and port.isdecimal() else host.lower()


def reply(refusal: Refusal) -> JSONResponse:
    """The reply that says why."""
    return JSONResponse({"error": refusal.message}, refusal.status, headers=refusal.headers)
