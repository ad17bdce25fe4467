"""A headless Chromium, driven by the DevTools protocol over two pipes: no library, no port."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PATIENCE = 60


class Browser:
    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="firepool-page-")
        to_browser, self.out = os.pipe()
        self.into, from_browser = os.pipe()
        os.set_inheritable(to_browser, True)
        os.set_inheritable(from_browser, True)
        command = [
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={self.home}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        # The browser reads from its descriptor 3 and writes to 4.
        wiring = f"exec 3<&{to_browser} 4>&{from_browser}; exec \"$0\" \"$@\""
        self.process = subprocess.Popen(
            ["bash", "-c", wiring, *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.number, self.events, self.session, self.handler = b"", 0, [], None, None
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self.session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self):
        try:
            self.session = None
            self.send("Browser.close", {})
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def send(self, method, params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        return self.number

    def receive(self, patience):
        """The next message, or None if there is none for so long."""
        deadline = time.monotonic() + patience
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.into], [], [], left)[0]:
                return None
            read = os.read(self.into, 1 << 20)
            if not read:
                raise SystemExit("the browser has ended")
            self.buffer += read
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, params=None):
        number = self.send(method, params or {})
        while True:
            message = self.receive(PATIENCE)
            if message is None:
                raise SystemExit(f"{method}: no answer")
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.take(message)

    def take(self, message):
        if "method" in message:
            self.events.append(message)
            if self.handler:
                self.handler(message)

    def rest(self, seconds):
        """Lets time pass, and takes what happens."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if message:
                self.take(message)

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True})
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def until(self, what, script, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while True:
            if value := self.evaluate(script):
                return value
            if time.monotonic() > deadline:
                state = self.evaluate("document.body.innerText.slice(0, 3000)")
                raise SystemExit(f"{what}: not within {patience} s\n{state}")
            self.rest(0.2)

    def open(self, url):
        self.call("Page.navigate", {"url": url})
        self.until("the page is there", "document.readyState === 'complete' && document.URL !== 'about:blank'")

    def asked(self, since=0):
        """The addresses that were asked for since an event."""
        wanted = (event for event in self.events[since:] if event["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in wanted]
