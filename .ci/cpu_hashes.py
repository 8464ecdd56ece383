"""Write .ci/torch-cpu.lock: the hashes of PyTorch's CPU builds, as its index states them.

The argument, if any, is another index (PEP 503).
"""

import re
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.error import URLError
from urllib.parse import unquote, urldefrag
from urllib.request import urlopen

from install import CPU_LOCK, INDEX, LOCK, TIMEOUT, versions

HEADER = """\
# PyTorch's CPU builds, for Linux without an NVIDIA driver: `make cpu-hashes` takes their hashes
# from their index.
"""
SHA256 = re.compile(r"sha256=([0-9a-f]{64})")


class _Links(HTMLParser):
    """The addresses of the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.addresses += [value for name, value in attrs if name == "href" and value]


def hashes_of(page: str, name: str, version: str) -> list[str]:
    """The sha256 of each wheel of a version, sorted.

    Raises:
        ValueError: a wheel has none, or there is no wheel.
    """
    links = _Links()
    links.feed(page)
    hashes = set()
    for address in links.addresses:
        url, fragment = urldefrag(address)
        if not unquote(url).rpartition("/")[2].startswith(f"{name}-{version}-"):
            continue
        sha256 = SHA256.fullmatch(fragment)
        if sha256 is None:
            raise ValueError(f"no sha256 of {address}")
        hashes.add(sha256[1])
    if not hashes:
        raise ValueError(f"no wheel of {name} {version}")
    return sorted(hashes)


def render(hashes: Mapping[str, list[str]]) -> str:
    """The lock file, from the hashes of each pinned package."""
    entries = (
        " \\\n".join([pin, *(f"    --hash=sha256:{sha256}" for sha256 in values)])
        for pin, values in hashes.items()
    )
    return HEADER + "".join(f"{entry}\n" for entry in entries)


def read_index(index: str, locked: str) -> dict[str, list[str]]:
    """The hashes of each locked package of PyTorch.

    Raises:
        ValueError: the index lacks one.
        OSError: it cannot be read.
    """
    hashes = {}
    for name, version in versions(locked).items():
        with urlopen(f"{index.rstrip('/')}/{name}/", timeout=TIMEOUT) as response:
            page = response.read().decode()
        hashes[f"{name}=={version}+cpu"] = hashes_of(page, name, f"{version}+cpu")
    return hashes


if __name__ == "__main__":
    source = sys.argv[1] if len(sys.argv) > 1 else INDEX
    try:
        CPU_LOCK.write_text(render(read_index(source, LOCK.read_text())))
    except (URLError, OSError, ValueError) as problem:
        sys.exit(f"error: {source}: {problem}; {CPU_LOCK} stays as it is")
