"""What firepool is known to do otherwise than PostgreSQL, and whether that is what was found."""

import collections

from servers import Failure

Known = collections.namedtuple("Known", "mode suite test reason")


def known(path):
    """The file's lines: mode, suite, test, and the reason in words."""
    with open(path, encoding="utf-8") as file:
        lines = [line.split(None, 3) for line in file if line.strip() and not line.startswith("#")]
    for line in lines:
        if len(line) != 4 or line[0] not in ("session", "transaction") or line[1] not in ("regress", "isolation"):
            raise Failure(f"{path}: a line is mode, suite, test and reason, unlike: {' '.join(line)}")
    return [Known(mode, suite, test, reason.strip()) for mode, suite, test, reason in lines]


def report(suite, passes, listed):
    """Prints what differs from the direct pass and whether the list says so; how many tests are as they should be."""
    direct = passes.get("direct", {})
    broken = sorted(test for test, succeeded in direct.items() if not succeeded)
    for name, results in passes.items():
        failures = [test for test, succeeded in results.items() if not succeeded]
        print(f"{name}: {len(results) - len(failures)} of {len(results)} tests succeeded"
              + (f"; failed: {' '.join(failures)}" if failures else ""))
    rows, right, wrong = [], 0, 0
    for mode, results in passes.items():
        reasons = {one.test: one.reason for one in listed if (one.mode, one.suite) == (mode, suite)}
        for test, succeeded in results.items():
            if mode != "direct" and test in broken:
                continue
            expected = mode == "direct" or test not in reasons
            right, wrong = (right + 1, wrong) if succeeded == expected else (right, wrong + 1)
            if mode != "direct" and not (succeeded and expected):
                verdict = reasons[test] if not succeeded and not expected else \
                    "NOT LISTED" if not succeeded else "LISTED, BUT IT SUCCEEDS: " + reasons[test]
                rows.append((mode, test, verdict))
    if rows:
        print("\n| mode | test | fails through firepool only, because |\n|---|---|---|")
        print("\n".join(f"| {mode} | {test} | {verdict} |" for mode, test, verdict in rows))
    if broken:
        print(f"\nnot compared, because they fail without firepool as well: {' '.join(broken)}")
    return right, wrong
