"""What is measured: loads, and the ways of setting the poolers up."""

import dataclasses

# The statement of `pgbench -S`.
SELECT = "\\set aid random(1, 100000 * :scale)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"

# The seven statements of pgbench's own transaction, with a comment so that pgbench does not take it for a built-in one.
TRANSACTION = """\\set aid random(1, 100000 * :scale)
\\set bid random(1, 1 * :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
"""

# 100 rows of 10 kB each.
ROWS = "SELECT n, repeat('x', 10000) FROM generate_series(1, 100) n;\n"


@dataclasses.dataclass(frozen=True)
class Load:
    """One kind of traffic: pgbench's protocol and script, or psql's COPY."""

    name: str
    protocol: str = "simple"
    script: str = SELECT
    # A login for each transaction.
    connects: bool = False
    # What COPY moves each time, in MB: psql does that, and not pgbench.
    copies: int = 0
    out: bool = True


LOADS = {load.name: load for load in [
    Load("simple"), Load("extended", "extended"), Load("prepared", "prepared"),
    Load("transaction", "prepared", TRANSACTION), Load("rows", "simple", ROWS), Load("connect", connects=True),
    Load("copy-out", copies=100), Load("copy-in", copies=40, out=False),
]}


@dataclasses.dataclass(frozen=True)
class Setup:
    """How all poolers are set up at once."""

    pool: int = 8
    mode: str = "transaction"
    tls: bool = False
    server: str = "unix"
    # More lines of firepool's route.
    route: str = ""

    def words(self):
        tls = "TLS" if self.tls else "plain"
        return f"pool {self.pool}, {self.mode} mode, {tls}, server over {self.server}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One place in the table. `idle` clients that do nothing, or `clients` that have a load."""

    setup: Setup
    load: str
    clients: int

    def words(self):
        return f"{self.load}, {self.clients} clients"


def idle(count):
    """Clients that have logged in and do nothing, in plaintext and with TLS."""
    return [Cell(Setup(tls=tls), "idle", count) for tls in (False, True)]


def quick(options):
    """What tells most in a few minutes."""
    plain, wide = Setup(), Setup(pool=32)
    cells = [Cell(plain, load, clients) for load in ("simple", "prepared") for clients in (32, 128)]
    cells += [Cell(plain, "simple", 1)]
    cells += [Cell(dataclasses.replace(wide, mode=mode), "prepared", 32) for mode in ("session", "transaction")]
    return cells + [Cell(Setup(tls=True), "connect", 8)] + idle(options.idle)


def full(options):
    """Everything, which takes hours."""
    plain = Setup()
    counts = [1, 8, 32, 128, 512, 5000]
    cells = [Cell(plain, load, clients) for load in ("simple", "extended", "prepared") for clients in counts]
    cells += [Cell(plain, "transaction", clients) for clients in (8, 32, 128)]
    cells += [Cell(setup, load, clients) for setup in (Setup(tls=True), Setup(server="tcp"))
              for load in ("simple", "prepared") for clients in (1, 32, 128)]
    cells += [Cell(Setup(pool=32, mode=mode), "prepared", 32) for mode in ("session", "transaction")]
    cells += [Cell(Setup(tls=tls), load, clients) for tls in (False, True)
              for load, clients in (("rows", 8), ("copy-out", 1), ("copy-in", 1), ("connect", 8))]
    return cells + idle(options.idle)


def chosen(options):
    """Those that the options name, each with each."""
    return [Cell(Setup(pool, mode, tls, server, options.route), load, clients)
            for pool in options.pools for mode in options.modes for tls in options.tls for server in options.servers
            for load in options.loads for clients in ([1] if LOADS[load].copies else options.clients)]
