"""A real browser, driven by chromedriver over W3C's WebDriver protocol."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
DRIVER = shutil.which("chromedriver")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
ARROW_RIGHT, ARROW_DOWN, ENTER, ESCAPE = "\ue014", "\ue015", "\ue007", "\ue00c"  # WebDriver's codes


class WebDriver:
    """One window of a headless Chromium."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 900) -> None:
        assert BROWSER
        assert DRIVER
        self._process = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout
        line = next(line for line in self._process.stdout if "started successfully on port" in line)
        self._url = f"http://127.0.0.1:{line.split()[-1].rstrip('.')}"
        arguments = [
            *ARGUMENTS,
            f"--window-size={width},{height}",
            f"--user-data-dir={folder / 'profile'}",
        ]
        options = {"binary": BROWSER, "args": arguments}
        capabilities = {
            "alwaysMatch": {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
                "unhandledPromptBehavior": "accept",
            }
        }
        session = self._ask("POST", "/session", {"capabilities": capabilities})
        self._url += f"/session/{session['sessionId']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ask("DELETE", "")
        self._process.terminate()
        self._process.communicate()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = json.dumps({} if body is None else body).encode() if method == "POST" else None
        request = urllib.request.Request(self._url + path, data, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["value"]

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """The value that a function body in JavaScript returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": arguments})

    def wait(self, script: str) -> Any:
        """Wait until an expression in JavaScript is true, and return its value."""
        deadline = time.monotonic() + 20
        while not (value := self.run(f"return {script}")):
            assert time.monotonic() < deadline, script
            time.sleep(0.05)
        return value

    def press(self, *keys: str) -> None:
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask(
            "POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]}
        )

    def click(self, selector: str) -> None:
        """Click the first element of a CSS selector with the mouse, where it is drawn."""
        (element,) = self._ask(
            "POST", "/element", {"using": "css selector", "value": selector}
        ).values()
        self._ask("POST", f"/element/{element}/click")

    def hover(self, selector: str) -> None:
        """Move the mouse to the middle of the first element of a CSS selector."""
        element = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        move = {"type": "pointerMove", "duration": 0, "origin": element, "x": 0, "y": 0}
        actions = [{"type": "pointer", "id": "mouse", "actions": [move]}]
        self._ask("POST", "/actions", {"actions": actions})

    def resize(self, width: int, height: int) -> None:
        """Show pages as on a screen of these pixels, which may be narrower than any window."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        body = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self._ask("POST", "/goog/cdp/execute", body)

    def errors(self) -> list[str]:
        """What the console has: violations of the page's policy, and exceptions."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self) -> bytes:
        """A PNG of the window."""
        return base64.b64decode(self._ask("GET", "/screenshot"))
