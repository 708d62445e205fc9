"""Looks at the dashboard with a real browser: browse.py CHROMIUM URL FOLDER

Checks that it draws, in light and dark and on a telephone, that nothing is wider than the screen, that
text is text whatever it holds, and that the browser had nothing to complain about. Leaves a picture
of each in FOLDER.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time

DEADLINE_SECONDS = 60
LOOKS = [
    ("dashboard", 1100, 900, "light"),
    ("dashboard-dark", 1100, 900, "dark"),
    ("dashboard-phone", 375, 812, "light"),
]


class Browser:
    """A headless Chromium, spoken to by its protocol over a pair of pipes."""

    def __init__(self, program, folder):
        to_browser, self.requests = os.pipe()
        self.answers, from_browser = os.pipe()
        # The browser finds the pipes as descriptors 3 and 4.
        wired = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe",
                   f"--user-data-dir={folder}", "about:blank"]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(["bash", "-c", wired, "bash", *command],
                                        pass_fds=(to_browser, from_browser),
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        os.close(to_browser)
        os.close(from_browser)
        self.number = 0
        self.pending = b""
        self.complaints = []

    def message(self):
        while b"\0" not in self.pending:
            more = os.read(self.answers, 1 << 20)
            if not more:
                self.log.seek(0)
                raise SystemExit("the browser ended:\n" + self.log.read().decode(errors="replace"))
            self.pending += more
        text, self.pending = self.pending.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, session=None, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if session:
            request["sessionId"] = session
        os.write(self.requests, json.dumps(request).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.number:
                if "error" in message:
                    raise SystemExit(f"{method}: {message['error']}")
                return message["result"]
            self.note(message)

    def note(self, message):
        about = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(json.dumps(about["entry"]))

    def evaluate(self, session, expression):
        told = self.call("Runtime.evaluate", session, expression=expression, returnByValue=True)
        if "exceptionDetails" in told:
            raise SystemExit(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def close(self):
        self.call("Browser.close")
        self.process.wait(DEADLINE_SECONDS)


def check(condition, what):
    if not condition:
        raise SystemExit("not so: " + what)


def look(browser, url, folder, name, width, height, scheme):
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log"):
        browser.call(domain + ".enable", session)
    browser.call("Emulation.setDeviceMetricsOverride", session, width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 500)
    browser.call("Emulation.setEmulatedMedia", session,
                 features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.call("Page.navigate", session, url=url)
    until = time.monotonic() + DEADLINE_SECONDS
    drawn = "document.body && document.body.dataset.shown === 'yes' && " \
        "[...document.querySelectorAll('polygon')].some((one) => one.points.numberOfItems > 6)"
    while not browser.evaluate(session, drawn):
        check(time.monotonic() < until, f"{name}: it draws within {DEADLINE_SECONDS} s")
        time.sleep(0.1)
    text = browser.evaluate(session, "document.body.innerText")
    for words in ("dram: bytes", "dram: throughput", "allocated", "127.0.0.1:", "alive", "mounts",
                  "the job was created"):
        check(words in text, f"{name}: it says '{words}':\n{text}")
    # Somebody gave a script as the reason for a drain.
    check(os.environ["REASON"] in text, f"{name}: the reason is shown as it is:\n{text}")
    check(browser.evaluate(session, "window.obeyed === undefined"), f"{name}: no text is obeyed")
    overflow = browser.evaluate(session, "document.documentElement.scrollWidth - window.innerWidth")
    check(overflow <= 0, f"{name}: nothing is wider than the screen, but {overflow} pixels are")
    ground = browser.evaluate(session, "getComputedStyle(document.body).backgroundColor")
    lightness = sum(int(part) for part in ground[ground.index("(") + 1:-1].split(",")[:3]) / 3
    check((lightness < 128) == (scheme == "dark"), f"{name}: the ground is {ground}")
    # The policy lets nothing else through.
    browser.evaluate(session, "document.body.append(Object.assign(document.createElement('script'),"
                              " {textContent: 'window.obeyed = 1'}))")
    check(browser.evaluate(session, "window.obeyed === undefined"), f"{name}: the policy holds")
    refused = [text for text in browser.complaints if "Content Security Policy" in text]
    check(len(refused) == 1, f"{name}: the browser refused the script that was put in: {browser.complaints}")
    others = [text for text in browser.complaints if text not in refused]
    check(not others, f"{name}: the browser complains: {others}")
    browser.complaints.clear()
    picture = browser.call("Page.captureScreenshot", session, format="png")["data"]
    with open(os.path.join(folder, name + ".png"), "wb") as file:
        file.write(base64.b64decode(picture))
    browser.call("Target.closeTarget", targetId=target)


def main():
    program, url, folder = sys.argv[1:]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = Browser(program, home)
        try:
            for name, width, height, scheme in LOOKS:
                look(browser, url, folder, name, width, height, scheme)
                print("looked at", name)
            browser.close()
        finally:
            browser.process.kill()


main()
