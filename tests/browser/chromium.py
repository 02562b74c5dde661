"""Headless Chromium, driven over its own DevTools protocol: no further package is needed."""

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
START_WITHIN = 30.0


def find_chromium() -> str:
    """The browser's path; skips the test, and says why, where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no Chromium on PATH (looked for {', '.join(names)})")
    return path


class Page:
    """One tab. `errors` holds what the console and the security policy complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.errors: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if "id" in data:
                self._waiting.pop(data["id"]).set_result(data)
            elif data["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif data["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(data["params"]["exceptionDetails"]))
            elif data["method"] == "Log.entryAdded" and data["params"]["entry"]["level"] == "error":
                self.errors.append(data["params"]["entry"]["text"])
            elif data["method"] == "Page.javascriptDialogOpening":
                self.errors.append(f"a dialog: {data['params']['message']}")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(self._waiting[number], START_WITHIN)
        assert "error" not in answer, answer
        return dict(answer["result"])

    async def open(self, url: str, *, width: int = 1440, height: int = 1000, scripts: bool = True) -> None:
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        await self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), START_WITHIN)

    async def js(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str, within: float = 20.0) -> None:
        """Wait, inside the page, until an expression is true."""
        waiting = (
            f"new Promise((done) => {{ const look = () => ({expression}) ? done(true)"
            " : requestAnimationFrame(look); look(); })"
        )
        async with asyncio.timeout(within):
            await self.js(waiting)

    async def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else ""
            )


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A fresh browser with one empty tab, ended with all its processes."""
    profile = tempfile.mkdtemp(prefix="hotsite-chromium-")
    process = await asyncio.create_subprocess_exec(
        find_chromium(),
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    tasks: list[asyncio.Task[None]] = []
    try:
        assert process.stderr is not None
        address = await asyncio.wait_for(_address(process.stderr), START_WITHIN)
        tasks.append(asyncio.create_task(_drain(process.stderr)))
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://{address}/json/list") as answer:
                tab = next(t for t in await answer.json() if t["type"] == "page")
            async with http.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                tasks.append(asyncio.create_task(page.listen()))
                yield page
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        shutil.rmtree(profile, ignore_errors=True)


async def _address(stderr: asyncio.StreamReader) -> str:
    """Where the browser says that it listens."""
    said = b""
    while line := await stderr.readline():
        said += line
        if found := re.search(rb"DevTools listening on ws://([^/]+)/", line):
            return found.group(1).decode()
    pytest.fail(f"Chromium ended by itself: {said.decode(errors='replace')}")


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass
