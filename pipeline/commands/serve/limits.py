"""What a client may ask for, and the answer to one that asks for more."""

from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True)
class Limits:
    """Of requests, and of all of them together."""

    body_bytes: int = 32 * 2**20
    """Of a request; also of what its URLs lead to."""
    body_seconds: float = 60
    """Until a body has arrived."""
    images: int = 64
    """In a request."""
    waiting_images: int = 256
    """Not yet answered, of all requests."""
    held_bytes: int = 2**29
    """Of the bodies in memory, of all requests."""


class Refusal(Exception):
    """The reply to a request that is not answered."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        """A sentence."""

    @property
    def headers(self) -> dict[str, str]:
        """Those that this status needs."""
        if self.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            return {"Retry-After": "1"}
        if self.status is HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        return {}


def refuse_when_busy() -> Refusal:
    """The reply while the server has too much to do."""
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "busy: try again in a second")
