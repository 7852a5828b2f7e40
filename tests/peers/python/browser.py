"""A headless Chromium, driven by its own DevTools protocol."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request

import websockets

# Less than the harness has, so that what is missing is said.
PATIENCE = 40


class Page:
    """One tab. `complaints` holds all that it found wrong: exceptions, errors on its
    console, requests that failed, and what its content security policy refused."""

    def __init__(self, socket):
        self.socket, self.last, self.waiting = socket, 0, {}
        self.complaints, self.requests = [], []

    async def listen(self):
        try:
            async for text in self.socket:
                message = json.loads(text)
                if "id" in message:
                    self.waiting.pop(message["id"]).set_result(message)
                else:
                    self.hear(message["method"], message["params"])
        finally:
            # Whoever still waits would do so for ever.
            for waits in self.waiting.values():
                waits.cancel()

    def hear(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            thrown = details.get("exception", {})
            self.complaints.append(thrown.get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
            said = [str(one.get("value", one.get("description"))) for one in params["args"]]
            self.complaints.append(" ".join(said))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    async def call(self, method, **params):
        self.last += 1
        waits = asyncio.get_running_loop().create_future()
        self.waiting[self.last] = waits
        await self.socket.send(json.dumps({"id": self.last, "method": method, "params": params}))
        message = await asyncio.wait_for(waits, PATIENCE)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    async def run(self, script):
        """The value of an expression, a promise's too."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def until(self, script, what=None):
        """Waits until an expression is true; its value."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < end:
            value = await self.run(script)
            if value:
                return value
            await asyncio.sleep(0.1)
        text = await self.run("document.body.innerText")
        raise AssertionError(f"never: {what or script}\n{text}\n{self.complaints}")

    async def screen(self, width, height, scheme="light"):
        """A screen of this size, in CSS pixels, on a device that likes this scheme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def open(self, url):
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def key(self, key, code=0):
        """A key is pressed and let go, as on a keyboard."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=code, **text,
            )

    async def write(self, text):
        await self.call("Input.insertText", text=text)

    async def picture(self, path):
        taken = await self.call("Page.captureScreenshot", format="png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(taken["data"]))


class Browser:
    """`async with Browser() as page:`"""

    async def __aenter__(self):
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        assert program, "no Chromium: run tests/install-peers.sh"
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={self.folder.name}",
        ]
        self.process = subprocess.Popen(
            [program, *options, "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        port = None
        for _ in range(PATIENCE * 10):
            try:
                with open(os.path.join(self.folder.name, "DevToolsActivePort")) as file:
                    port = file.readline().strip()
                if port:
                    break
            except FileNotFoundError:
                assert self.process.poll() is None, "Chromium has ended"
            await asyncio.sleep(0.1)
        assert port, "Chromium does not start"
        ask = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(ask, timeout=PATIENCE) as answer:
            tab = json.load(answer)
        self.socket = await websockets.connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None)
        page = Page(self.socket)
        self.listener = asyncio.create_task(page.listen())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        return page

    async def __aexit__(self, *_):
        self.listener.cancel()
        await self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()
