"""Chromium without a window, driven through its debugging pipe: no driver, no package."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support.waiting import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS = 120
# Chromium reads commands at 3 and writes at 4; a shell cannot be asked for it, some know no numbers above 9
_AS_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
_SPOKEN = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """One page.

    Args:
        profile: an empty folder.
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        theirs, self._out = os.pipe()
        self._in, mine = os.pipe()
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
        command = [CHROMIUM, *flags, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _AS_3_AND_4, str(theirs), str(mine), *command],
            pass_fds=(theirs, mine),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(mine)
        self._number, self._pending = 0, b""
        self._session: str | None = None
        self.messages: list[str] = []
        """What the page said to its console, and what was refused."""
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "DOM"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends one command of the DevTools protocol and waits for its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            found = self._receive(end)
            if found.get("id") == self._number:
                assert "error" not in found, found
                return dict(found["result"])
            is_advice = found.get("params", {}).get("entry", {}).get("level") == "verbose"
            if found.get("method") in _SPOKEN and not is_advice:
                self.messages.append(json.dumps(found["params"]))

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._pending:
            assert select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0], "Chromium does not answer"
            piece = os.read(self._in, 2**20)
            assert piece, "Chromium has ended"
            self._pending += piece
        message, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(message))

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Of the page, in its pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def open(self, address: str) -> None:
        """Goes to an address."""
        self.call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true."""
        wait_until(lambda: self.run(f"Boolean({script})"), f"true: {script}", seconds=SECONDS)

    def choose(self, selector: str, path: Path) -> None:
        """Puts a file into a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(30)
        os.close(self._in)
        os.close(self._out)
