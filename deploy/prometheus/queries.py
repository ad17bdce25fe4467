"""Asks a Prometheus for what each panel of a dashboard shows: fails if a query is wrong, or has no data where it should."""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

PROMETHEUS, DASHBOARD = sys.argv[1:3]
# Nobody is pinned at some moments.
MAY_BE_EMPTY = ("firepool_pins_total",)
VARIABLES = {"$database": ".*", "$schema": ".*", "$__rate_interval": "10s"}


def ask(expression):
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{PROMETHEUS}/api/v1/query?{query}", timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def wait():
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if ask("count_over_time(firepool_build_info[1m]) >= 5 and firepool_build_info"):
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.5)
    sys.exit("Prometheus has scraped nothing within a minute")


wait()
expressions = []
for panel in json.load(open(DASHBOARD, encoding="utf-8"))["panels"]:
    expressions += [(panel["title"], target["expr"]) for target in panel["targets"]]
wrong = 0
for title, expression in expressions:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    try:
        empty = not ask(expression)
    except urllib.error.HTTPError as error:
        print(f"{title}: {error.read().decode()}\n  {expression}")
        wrong += 1
        continue
    if empty and not any(name in expression for name in MAY_BE_EMPTY):
        print(f"{title}: no data\n  {expression}")
        wrong += 1
print(f"{len(expressions)} queries of the dashboard, {wrong} wrong")
sys.exit(wrong > 0)
