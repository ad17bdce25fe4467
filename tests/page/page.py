"""What the page does in a real browser, under load: python3 page.py ADDRESS TOKEN [SCREENSHOT]"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request

from browser import Browser

ADDRESS, TOKEN = sys.argv[1:3]
SCREENSHOT = sys.argv[3] if len(sys.argv) > 3 else None
PAGE = f"http://{ADDRESS}/"
HOSTILE = "<script>hacked=1</script>"
FULL = "!document.getElementById('main').hidden && document.getElementById('pools').rows.length > 2"
TEXT = "document.getElementById('{0}').innerText"


def check(what, is_so):
    print(("ok    " if is_so else "WRONG ") + what, flush=True)
    if not is_so:
        raise SystemExit(1)


def submit(browser, token):
    fill = f"document.getElementById('token').value = {json.dumps(token)}"
    browser.evaluate(f"{fill}; document.querySelector('#ask button').click()")


def token_is_asked_for(browser):
    browser.open(PAGE)
    browser.until("the page asks for its token", "!document.getElementById('ask').hidden")
    check("no figure is shown without a token", browser.evaluate("document.getElementById('main').hidden"))
    check("the field has the focus", browser.evaluate("document.activeElement.id") == "token")
    check("the field has a label", browser.evaluate("document.getElementById('token').labels.length") == 1)
    submit(browser, "not-the-token-at-all")
    browser.until("a wrong token is told", "document.getElementById('wrong').textContent.includes('not the token')")
    check("no figure is shown for a wrong token", browser.evaluate("document.getElementById('main').hidden"))
    check("a wrong token is not kept", browser.evaluate("sessionStorage.length") == 0)
    before = len(browser.events)
    browser.rest(4)
    check("nothing is asked while it waits for a token", browser.asked(before) == [])
    submit(browser, TOKEN)
    browser.until("the figures are shown", FULL)
    browser.call("Page.reload")
    browser.rest(1)
    browser.until("a reload does not ask again", FULL)


def figures_are_there(browser):
    for user in ("fireinsert", "firebroker", "fireread"):
        browser.until(f"{user} has a pool", f"{TEXT.format('pools')}.includes('{user}')")
    for schema in ("wm", "entity", "brk_tracking", "brk_registry"):
        rate = f"[...document.getElementById('schemas').tBodies[0].rows].some(row => row.cells[0].textContent === '{schema}'"
        browser.until(f"{schema} has a rate", rate + " && parseFloat(row.cells[2].textContent) > 0)")
        browser.until(f"{schema} has a p99", rate + " && /[µm]?s/.test(row.cells[8].textContent))")
    lines = "[...document.querySelectorAll('#now polyline, #schemas polyline')].filter(l => l.points.numberOfItems > 2).length"
    browser.until("charts are drawn", f"{lines} > 6")
    browser.until("refusals are shown by rule", f"{TEXT.format('guarded')}.includes('fireread')")
    browser.until("pins are shown by reason", f"{TEXT.format('pins')}.includes('advisory_lock')")
    browser.until("the certificate is shown", f"{TEXT.format('certificates')}.includes('tls.certificate')")
    check("the state is live", browser.evaluate("document.getElementById('state').textContent") == "live")
    check("every worker runs", "not seen" not in browser.evaluate(TEXT.format("workers")))


def statements_are_there(browser):
    """Without literals, where they are counted at all."""
    request = urllib.request.Request(f"{PAGE}statements.json?limit=1", headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        check("statements that are not counted are a note", error.code == 404)
        browser.until("the note", "document.getElementById('statements-note').textContent.includes('not counted')")
        return
    browser.until("statements are shown", f"{TEXT.format('statements')}.includes('working_memory')")
    check("no literal is shown", "'here'" not in browser.evaluate(TEXT.format("statements")))


def hostile_names_are_text(browser):
    browser.until("the hostile user is shown", f"{TEXT.format('pools')}.includes({json.dumps(HOSTILE)})")
    browser.rest(3)
    check("nothing of a client's has run", browser.evaluate("typeof hacked") == "undefined")
    check("there is one script, the page's", browser.evaluate("document.scripts.length") == 1)
    check("there is no image", browser.evaluate("document.images.length") == 0)
    inject = "try {{ const s = document.createElement('{0}'); {1}; document.body.append(s) }} catch {{ }}"
    browser.evaluate(inject.format("script", "s.textContent = 'hacked = 1'"))
    browser.evaluate(inject.format("div", "s.innerHTML = '<img src=x onerror=hacked=1>'"))
    browser.rest(1)
    check("nothing else could run", browser.evaluate("typeof hacked") == "undefined")
    foreign = [url for url in browser.asked() if not url.startswith(PAGE)]
    check("nothing was asked of anybody else", foreign == [])


def it_rests_when_hidden(browser):
    show = "Object.defineProperty(document, 'hidden', {{configurable: true, get: () => {0}}});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    browser.evaluate(show.format("true") + tell)
    browser.rest(1)
    before = len(browser.events)
    browser.rest(6)
    check("nothing is asked while nobody looks", browser.asked(before) == [])
    browser.evaluate(show.format("false") + tell)
    browser.rest(3)
    check("it goes on when somebody does", len(browser.asked(before)) >= 1)


def it_says_that_it_is_stale(browser):
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", {"offline": True, **network})
    browser.until("it says that its figures are old", "document.getElementById('state').textContent.startsWith('stale')", 20)
    check("and looks like it", browser.evaluate("document.body.className") == "stale")
    check("and still shows them", browser.evaluate(FULL))
    browser.call("Network.emulateNetworkConditions", {"offline": False, **network})
    browser.until("it is live again", "document.getElementById('state').textContent === 'live'", 20)
    check("and looks like it again", browser.evaluate("document.body.className") == "")


def trouble_of_the_process_is_told(browser):
    """A worker that was not seen for a minute, a certificate that ends tomorrow, a reload that failed."""

    def change(message):
        if message["method"] != "Fetch.requestPaused":
            return
        number = message["params"]["requestId"]
        # Sent without waiting: this runs while somebody else waits.
        waiting.append(number)

    def serve():
        for number in waiting[:]:
            waiting.remove(number)
            body = browser.call("Fetch.getResponseBody", {"requestId": number})
            text = base64.b64decode(body["body"]).decode() if body["base64Encoded"] else body["body"]
            live = json.loads(text)
            live["workers"][0]["seen"] -= 60_000
            live["certificates"][0]["until"] = live["now"] // 1000 + 86_400
            live["config"]["reloaded"] = False
            live["not_ready"] = "draining"
            changed = base64.b64encode(json.dumps(live).encode()).decode()
            browser.call("Fetch.fulfillRequest", {"requestId": number, "responseCode": 200, "body": changed})

    waiting = []
    browser.handler = change
    pattern = {"urlPattern": "*live.json", "requestStage": "Response"}
    browser.call("Fetch.enable", {"patterns": [pattern]})
    for _ in range(30):
        browser.rest(0.3)
        serve()
        if "not seen for" in browser.evaluate(TEXT.format("workers")):
            break
    bad = "document.querySelector('#{0} .bad') !== null"
    for what, where in (("a stuck worker", "workers"), ("a certificate", "certificates"), ("a reload", "config")):
        check(f"{what} in trouble stands out", browser.evaluate(bad.format(where)))
    state = browser.evaluate("document.getElementById('state').textContent")
    check("so does a proxy that is not ready", state == "live, not ready: draining")
    browser.handler = None
    browser.call("Fetch.disable")


CONTRAST = """(() => {
  const parts = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = text => parts(text).map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const back = light(getComputedStyle(document.body).backgroundColor);
  const made = ['bad', 'warn', 'note'].map(style => { const p = document.createElement('p'); p.className = style; document.body.append(p); return p; });
  const seen = [...made, document.body, document.querySelector('thead th'), document.getElementById('age')];
  const ratios = seen.map(element => { const text = light(getComputedStyle(element).color);
    return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05); });
  made.forEach(p => p.remove());
  return Math.min(...ratios);
})()"""


def everybody_can_read_it(browser):
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        ratio = browser.evaluate(CONTRAST)
        # WCAG 2, success criterion 1.4.3
        check(f"contrast in {scheme}: {ratio:.1f}", ratio >= 4.5)
    browser.call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
    tables = "[...document.querySelectorAll('main table')].filter(t => t.tHead)"
    named = f"{tables}.every(t => t.getAttribute('aria-label') && [...t.tHead.rows[0].cells].every(c => c.scope === 'col'))"
    check("every table has a name and headings", browser.evaluate(f"{tables}.length >= 10 && {named}"))
    sections = "[...document.querySelectorAll('section')].every(s => document.getElementById(s.getAttribute('aria-labelledby')))"
    check("every section has its heading", browser.evaluate(sections))
    check("every chart has its words", browser.evaluate("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))"))
    check("the language is told", browser.evaluate("document.documentElement.lang") == "en")


def take_a_picture(browser):
    size = {"width": 1280, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", size)
    browser.rest(int(os.environ.get("SECONDS_BEFORE_THE_PICTURE", "8")))
    picture = base64.b64decode(browser.call("Page.captureScreenshot", {"format": "png"})["data"])
    check(f"the screenshot has {len(picture)} bytes", 20_000 < len(picture) < 300_000)
    with open(SCREENSHOT, "wb") as file:
        file.write(picture)


def no_error_was_logged(browser):
    entries = [e["params"]["entry"] for e in browser.events if e["method"] == "Log.entryAdded"]
    # A token that is missing or wrong, statements that are not counted, the network that was off, and what was injected.
    known = ("status of 401", "status of 404", "ERR_INTERNET_DISCONNECTED", "Content Security Policy", "TrustedHTML", "TrustedScript")
    errors = [e["text"] for e in entries if e["level"] == "error" and not any(word in e["text"] for word in known)]
    errors += [e["params"]["exceptionDetails"]["text"] for e in browser.events if e["method"] == "Runtime.exceptionThrown"]
    print(*errors, sep="\n")
    check("no error was logged", errors == [])


browser = Browser()
try:
    token_is_asked_for(browser)
    figures_are_there(browser)
    statements_are_there(browser)
    hostile_names_are_text(browser)
    everybody_can_read_it(browser)
    if SCREENSHOT:
        take_a_picture(browser)
    it_rests_when_hidden(browser)
    it_says_that_it_is_stale(browser)
    trouble_of_the_process_is_told(browser)
    no_error_was_logged(browser)
finally:
    browser.close()
