"""What every program does: many clients at once, each with a schema, a time zone and a name of its own.

A client calls its tables by their names alone. So whoever gets another client's search path reads another client's
rows, and finds out.
"""

import asyncio
import os
import sys
import threading
import traceback

CLIENTS = 20
ZONES = ["UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "Asia/Kathmandu"]
HOST, PORT = os.environ["PGHOST"], int(os.environ["PGPORT"])
USER, PASSWORD = os.environ["PGUSER"], os.environ["PGPASSWORD"]


def database(mode):
    """The name of the database that leads to this mode's route."""
    return os.environ[f"CLIENTS_{mode.upper()}"]


class Own:
    """One client's own values, and the count of what it has checked."""

    def __init__(self, program, number):
        self.number, self.checks = number, 0
        self.name = f"{program}-{number}"
        self.schema = f"{program}_{number}"
        self.zone = ZONES[number % len(ZONES)]

    def other_zone(self, turn):
        return ZONES[(self.number + turn) % len(ZONES)]

    def same(self, got, expected, what):
        self.checks += 1
        if got != expected:
            raise AssertionError(f"client {self.number}: {what}: got {got!r}, expected {expected!r}")

    def statements(self):
        """What the schema is made with: ten rows, whose values name their client."""
        return [f"DROP SCHEMA IF EXISTS {self.schema} CASCADE", f"CREATE SCHEMA {self.schema}",
                f"CREATE TABLE {self.schema}.own (id int PRIMARY KEY, value text NOT NULL)",
                f"INSERT INTO {self.schema}.own SELECT i, '{self.name}:' || i FROM generate_series(0, 9) i"]

    def value(self, row):
        return f"{self.name}:{row}"


def finish(owns, problems):
    if problems:
        print(f"{len(problems)} of {len(owns)} clients failed")
        for problem in problems[:3]:
            print(problem)
        sys.exit(1)
    print(f"ok {sum(own.checks for own in owns)} checks", flush=True)


def threads(program, client, clients=CLIENTS):
    """Runs `client` in so many threads at once."""
    owns, problems = [Own(program, number) for number in range(clients)], []

    def run(own):
        try:
            client(own)
        except BaseException:  # pylint: disable=broad-exception-caught
            problems.append(f"client {own.number}:\n{traceback.format_exc()}")

    running = [threading.Thread(target=run, args=(own,), daemon=True) for own in owns]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    finish(owns, problems)


async def tasks(program, client, clients=CLIENTS):
    """Runs `client` in so many tasks at once."""
    owns, problems = [Own(program, number) for number in range(clients)], []

    async def run(own):
        try:
            await client(own)
        except BaseException:  # pylint: disable=broad-exception-caught
            problems.append(f"client {own.number}:\n{traceback.format_exc()}")

    await asyncio.gather(*map(run, owns))
    finish(owns, problems)
