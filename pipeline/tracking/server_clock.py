"""The clock that machines with a common store agree on: that of its server."""

from email.utils import parsedate_to_datetime
from typing import Any

from mlflow import get_tracking_uri
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from pipeline.tracking import postgres

HEALTH = "/health"  # MLflow's page that needs no account and reads no database
UNCACHED = {"Cache-Control": "no-cache"}  # a proxy's copy would have the time of its making


def read() -> float | None:
    """Seconds since 1970; None where no server has the store, or its clock is not known."""
    uri = str(get_tracking_uri())
    if postgres.is_postgres(uri):
        return postgres.read_clock(uri)
    if uri.startswith(("http:", "https:")):
        return _read_http(uri)
    return None


def _read_http(uri: str) -> float | None:
    """The header `Date` of an answer; whether the server refuses the request does not matter."""
    ask: Any = http_request  # without types
    credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
    answer = ask(credentials, HEALTH, "GET", extra_headers=UNCACHED, raise_on_status=False)
    try:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
