"""One run of a load through one pooler, and what it cost.

Only the time between the warm-up and the end counts: pgbench logs when each transaction ended, and the processes' CPU
time is sampled beside it, so that logins, which poolers pay for very differently, are outside.
"""

import glob
import os
import re
import statistics
import subprocess
import time

import processes
from cells import LOADS, SELECT
from servers import DATABASE, USER, Failure

# How often CPU time is sampled, in seconds. Reading /proc costs a few milliseconds with many server processes.
PERIOD = 0.25

# Seconds in which a client has to be logged in, all of them one after the other.
LOGIN = 0.02
# How long one of pgbench's takes on a machine like this one, with SCRAM on both sides.
USUAL_LOGIN = 0.006

# Each row has to be the one that was asked for; otherwise the transaction fails, and with it the run.
CHECKED = SELECT.replace("SELECT abalance", "SELECT aid AS got, abalance").rstrip().rstrip(";") + """ \\gset
\\if :got != :aid
SELECT 'not the row that was asked for'::int;
\\endif
"""

# What comes over in many pieces, the same for everybody.
LARGE = "SELECT n, repeat(chr(65 + n % 26), n % 3000) FROM generate_series(1, 3000) n ORDER BY n"

LINE = 1000


class Runner:
    """The same load for everybody."""

    def __init__(self, workshop, server, options):
        self.workshop, self.server, self.options = workshop, server, options
        self.scripts = {name: workshop.write(f"{name}.sql", load.script) for name, load in LOADS.items()}
        self.checked = workshop.write("checked.sql", CHECKED)
        self.lines = None

    def address(self, port):
        return ["-h", "127.0.0.1", "-p", str(port), "-U", USER]

    def pgbench(self, port, script, protocol, clients):
        return [self.workshop.program("pgbench"), "-n", "-f", script, "-M", protocol, "-c", str(clients),
                "-j", str(min(clients, self.options.jobs)), "-D", f"scale={self.options.scale}",
                *self.address(port), DATABASE]

    def psql(self, port, sql, tls=False):
        return self.workshop.call(self.workshop.program("psql"), "-X", "-A", "-t", *self.address(port), "-c", sql,
                                  DATABASE, tls=tls)

    def verify(self, port, tls):
        """What comes through this port is what the server has: many rows at once, and each of many clients' own. Why it
        is not, by protocol."""
        if self.psql(port, LARGE, tls) != self.psql(self.server.port, LARGE):
            raise Failure("the rows of a large result are not the server's")
        wrong = {}
        for protocol in ("simple", "extended", "prepared"):
            try:
                words = self.workshop.call(*self.pgbench(port, self.checked, protocol, 8), "-t", "25", tls=tls)
            except Failure as failure:
                words = str(failure)
            if "number of transactions actually processed: 200/200" not in words or failures(words):
                wrong[protocol] = words
        return wrong

    def run(self, subject, cell):
        """Runs a cell once against a subject; the figures, by name."""
        load = LOADS[cell.load]
        if load.copies:
            return self.copy(subject, cell, load)
        return self.transactions(subject, cell, load)

    def transactions(self, subject, cell, load):
        folder = self.workshop.path("log")
        os.makedirs(folder, exist_ok=True)
        for old in glob.glob(os.path.join(folder, "*")):
            os.unlink(old)
        # pgbench's time begins with its logins.
        seconds = round(self.options.warm_up + self.options.seconds + cell.clients * USUAL_LOGIN)
        script = self.options.script or self.scripts[cell.load]
        command = [*self.pgbench(subject.port, script, load.protocol, cell.clients), "-T", str(max(1, seconds)), "-l",
                   f"--log-prefix={os.path.join(folder, 'log')}", *(["-C"] if load.connects else []),
                   *(["-R", str(self.options.rate)] if self.options.rate else [])]
        limit = seconds + 60 + cell.clients * LOGIN
        with subprocess.Popen(command, env=self.workshop.environment(cell.setup.tls), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as pgbench:
            try:
                samples, busy = self.watch(pgbench, subject.pids, limit)
                # Its output is a screenful, which the pipe holds.
                words = pgbench.stdout.read()
            finally:
                if pgbench.poll() is None:
                    pgbench.kill()
        if pgbench.returncode != 0 or failures(words):
            raise Failure(f"transactions failed:\n{words}")
        resident = processes.resident_kb(subject.pids) if subject.pids else None
        return {**self.figures(folder, samples), **busy, "rss_kb": resident}

    def watch(self, child, pids, limit):
        samples, spent = [], -processes.clients_cpu_seconds()
        deadline = time.monotonic() + limit
        before, started = processes.machine(), time.monotonic()
        while child.poll() is None:
            if time.monotonic() > deadline:
                raise Failure("a client did not end in time")
            samples.append(self.sample(pids))
            try:
                child.wait(PERIOD)
            except subprocess.TimeoutExpired:
                pass
        return samples, self.busy(before, started, spent, samples)

    @staticmethod
    def busy(before, started, spent, samples):
        """What the machine did meanwhile, and how much of it is not of this measurement."""
        after, elapsed = processes.machine(), time.monotonic() - started
        spent += processes.clients_cpu_seconds()
        total = lambda sample: sum(sample[1]) + sum(sample[2].values())
        spent += total(samples[-1]) - total(samples[0])
        all_of_it = elapsed * (os.cpu_count() or 1)
        return {"machine_busy": (after[0] - before[0]) / all_of_it,
                "machine_stolen": (after[1] - before[1]) / all_of_it,
                "machine_others": max(0.0, after[0] - before[0] - spent) / all_of_it}

    def sample(self, pids):
        """The time, the pooler's CPU time, and that of PostgreSQL's processes."""
        cpu = processes.cpu_seconds(pids) if pids else (0.0, 0.0)
        return time.time(), cpu, processes.server_cpu_seconds(self.server.process.pid)

    def figures(self, folder, samples):
        ended, latencies = [], []
        for name in glob.glob(os.path.join(folder, "log*")):
            with open(name, encoding="utf-8") as log:
                for line in log:
                    _client, _number, latency, _script, second, micro = line.split()[:6]
                    ended.append(int(second) + int(micro) / 1e6)
                    latencies.append(int(latency))
        if not ended:
            raise Failure("pgbench logged no transaction")
        start, end = min(ended) + self.options.warm_up, max(ended)
        window = [sample for sample in samples if start <= sample[0] <= end]
        if len(window) < 2:
            raise Failure("the run was too short to be measured: raise --seconds")
        start, end = window[0][0], window[-1][0]
        taken = sorted(latency for latency, when in zip(latencies, ended) if start <= when < end)
        if not taken:
            raise Failure("no transaction ended within the time that counts")
        count = len(taken)
        at = lambda share: taken[min(count - 1, int(count * share))]
        return {
            **costs(window[0], window[-1], count), "tps": count / (end - start),
            "latency_us": statistics.fmean(taken), "p50_us": at(0.50), "p95_us": at(0.95), "p99_us": at(0.99),
            "p999_us": at(0.999), "max_us": taken[-1], "transactions": count,
        }

    def copy(self, subject, cell, load):
        """COPY again and again; a transaction is a megabyte, and its latency that of a whole COPY over its megabytes."""
        rows = load.copies * 1000
        if load.out:
            sql = f"COPY (SELECT repeat('x', {LINE - 1}) FROM generate_series(1, {rows})) TO STDOUT"
        else:
            sql = f"\\copy sink FROM '{self.data(rows)}'"
        command = [self.workshop.program("psql"), "-X", "-q", *self.address(subject.port), "-c", sql, DATABASE]
        taken, samples, spent = [], [], -processes.clients_cpu_seconds()
        before, started, warm = processes.machine(), time.monotonic(), not self.options.warm_up
        while not taken or time.monotonic() - started < self.options.seconds:
            samples.append(self.sample(subject.pids))
            began = time.monotonic()
            done = subprocess.run(command, env=self.workshop.environment(cell.setup.tls), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True, timeout=300, check=False)
            if done.returncode != 0:
                raise Failure(f"COPY failed: {done.stderr}")
            if not warm:
                warm, samples, spent = True, [], -processes.clients_cpu_seconds()
                before, started = processes.machine(), time.monotonic()
                continue
            taken.append((time.monotonic() - began) * 1e6 / load.copies)
        samples.append(self.sample(subject.pids))
        if not load.out:
            self.psql(self.server.port, "TRUNCATE sink")
        taken.sort()
        count = len(taken) * load.copies
        elapsed = samples[-1][0] - samples[0][0]
        resident = processes.resident_kb(subject.pids) if subject.pids else None
        return {
            **costs(samples[0], samples[-1], count), **self.busy(before, started, spent, samples),
            "tps": count / elapsed, "latency_us": statistics.fmean(taken), "p50_us": taken[len(taken) // 2],
            "p95_us": taken[-1], "p99_us": taken[-1], "p999_us": taken[-1], "max_us": taken[-1],
            "transactions": count, "rss_kb": resident,
        }

    def data(self, rows):
        if not self.lines:
            self.lines = self.workshop.write("lines", ("y" * (LINE - 1) + "\n") * rows)
        return self.lines


def failures(words):
    failed = re.search(r"number of failed transactions: (\d+)", words)
    return (failed and failed[1] != "0") or "aborted" in words


def costs(first, last, count):
    """CPU time of a transaction, in microseconds."""
    user, system = (end - start for start, end in zip(first[1], last[1]))
    server = sum(last[2][pid] - first[2][pid] for pid in first[2].keys() & last[2].keys())
    return {"cpu_us": (user + system) * 1e6 / count, "user_us": user * 1e6 / count, "system_us": system * 1e6 / count,
            "server_cpu_us": server * 1e6 / count}
