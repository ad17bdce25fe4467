"""What firepool is known to do otherwise than PostgreSQL, and whether that is what was found."""

import collections

from servers import Failure

Known = collections.namedtuple("Known", "mode suite test reason")
Verdict = collections.namedtuple("Verdict", "right words")
# How the reason of a test begins that may succeed as well, because it depends on which server connection it gets.
SOMETIMES = "sometimes:"


def known(path):
    """The file's lines: mode, suite, test, and the reason in words."""
    with open(path, encoding="utf-8") as file:
        lines = [line.split(None, 3) for line in file if line.strip() and not line.startswith("#")]
    for line in lines:
        if len(line) != 4 or line[0] not in ("session", "transaction") or line[1] not in ("regress", "isolation"):
            raise Failure(f"{path}: a line is mode, suite, test and reason, unlike: {' '.join(line)}")
    return [Known(mode, suite, test, reason.strip()) for mode, suite, test, reason in lines]


def report(suite, passes, listed, whole):
    """Prints what differs from the direct pass and whether the list says so; how many tests are as they should be.

    What fails without firepool as well is not compared, and is wrong: it should not. In a run that is not the whole
    suite, a listed test may succeed: what it stumbles over may be what an earlier test left.
    """
    broken = [test for test, succeeded in passes.get("direct", {}).items() if not succeeded]
    rows, right, wrong = [], 0, 0
    for mode, results in passes.items():
        failures = [test for test, succeeded in results.items() if not succeeded]
        print(f"{mode}: {len(results) - len(failures)} of {len(results)} tests succeeded"
              + (f"; failed: {' '.join(failures)}" if failures else ""))
        reasons = {one.test: one.reason for one in listed if (one.mode, one.suite) == (mode, suite)}
        for test, succeeded in results.items():
            if mode != "direct" and test in broken:
                continue
            verdict = judge(succeeded, reasons.get(test), whole)
            right, wrong = right + verdict.right, wrong + (not verdict.right)
            if mode != "direct" and verdict.words:
                rows.append(f"| {mode} | {test} | {verdict.words} |")
    if rows:
        print("\n| mode | test | fails through firepool only, because |\n|---|---|---|", *rows, sep="\n")
    if broken:
        print(f"\nnot compared, because they fail without firepool as well: {' '.join(broken)}")
    return right, wrong


def judge(succeeded, reason, whole):
    if reason is None:
        return Verdict(succeeded, "" if succeeded else "NOT LISTED")
    if succeeded and whole and not reason.startswith(SOMETIMES):
        return Verdict(False, "LISTED, BUT IT SUCCEEDS: " + reason)
    return Verdict(True, "" if succeeded else reason)
