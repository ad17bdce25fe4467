"""One run of pgbench through one pooler, and what it cost.

Only the time between the warm-up and the end counts: pgbench logs when each transaction ended, and the processes' CPU
time is sampled beside it, so that logins, which poolers pay for very differently, are outside.
"""

import glob
import os
import re
import resource
import statistics
import subprocess
import time

from servers import DATABASE, USER, Failure

TICKS = os.sysconf("SC_CLK_TCK")

# How often CPU time is sampled, in seconds. Reading /proc costs a few milliseconds with many server processes.
PERIOD = 0.25


def cpu_seconds(pid):
    """User and system time of all threads of a process, as /proc/PID/stat has it."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        # The name, in parentheses, may hold spaces.
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return file.read().split()


def server_cpu_seconds(postmaster):
    """CPU time of PostgreSQL's processes, by process: those that end in between are left out."""
    times = {}
    for pid in children(postmaster):
        try:
            times[pid] = cpu_seconds(pid)
        except OSError:
            pass
    return times


def sum_of(sample):
    return sample[1] + sum(sample[2].values())


def clients_cpu_seconds():
    """CPU time of the runs of pgbench that have ended; what else was started still runs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return int(re.search(r"^VmRSS:\s+(\d+)", status.read(), re.MULTILINE)[1])


def machine():
    """Busy and stolen time of all cores, in seconds."""
    with open("/proc/stat", encoding="utf-8") as stat:
        fields = [int(field) / TICKS for field in stat.readline().split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, steal = fields
    return user + nice + system + irq + softirq, steal


class Load:
    """The same load for everybody."""

    def __init__(self, workshop, server, options):
        self.workshop, self.server, self.options = workshop, server, options

    def command(self, port, protocol, clients, prefix):
        script = ["-f", self.options.script] if self.options.script else ["-S"]
        jobs = min(clients, self.options.jobs)
        seconds = round(self.options.warm_up + self.options.seconds)
        return [
            self.workshop.program("pgbench"), "-n", *script, "-M", protocol, "-c", str(clients),
            "-j", str(jobs), "-T", str(seconds), "-l", f"--log-prefix={prefix}", "-h", "127.0.0.1",
            "-p", str(port), "-U", USER, DATABASE,
        ]

    def run(self, port, pid, protocol, clients):
        """Runs it once against `port`, where process `pid` listens, if any; the figures, by name."""
        folder = self.workshop.path("log")
        os.makedirs(folder, exist_ok=True)
        for old in glob.glob(os.path.join(folder, "*")):
            os.unlink(old)
        command = self.command(port, protocol, clients, os.path.join(folder, "log"))
        with subprocess.Popen(command, env=self.workshop.environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as pgbench:
            try:
                samples, busy, words = self.watch(pgbench, pid)
            finally:
                if pgbench.poll() is None:
                    pgbench.kill()
        failed = re.search(r"number of failed transactions: (\d+)", words)
        if pgbench.returncode != 0 or (failed and failed[1] != "0") or "aborted" in words:
            raise Failure(f"transactions failed:\n{words}")
        return {**self.figures(folder, samples), **busy, "rss_kb": resident_kb(pid) if pid else None}

    def watch(self, pgbench, pid):
        samples, spent = [], -clients_cpu_seconds()
        deadline = time.monotonic() + self.options.warm_up + self.options.seconds + 60
        before, started = machine(), time.monotonic()
        while pgbench.poll() is None:
            if time.monotonic() > deadline:
                raise Failure("pgbench did not end in time")
            samples.append(self.sample(pid))
            try:
                pgbench.wait(PERIOD)
            except subprocess.TimeoutExpired:
                pass
        after, elapsed = machine(), time.monotonic() - started
        spent += clients_cpu_seconds()
        spent += sum_of(samples[-1]) - sum_of(samples[0])
        all_of_it = elapsed * (os.cpu_count() or 1)
        busy = {"machine_busy": (after[0] - before[0]) / all_of_it,
                "machine_stolen": (after[1] - before[1]) / all_of_it,
                "machine_others": max(0.0, after[0] - before[0] - spent) / all_of_it}
        # Its output is a screenful, which the pipe holds.
        return samples, busy, pgbench.stdout.read()

    def sample(self, pid):
        """The time, the pooler's CPU time, and that of PostgreSQL's processes."""
        return time.time(), cpu_seconds(pid) if pid else 0.0, server_cpu_seconds(self.server.process.pid)

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
        (start, cpu, server), (end, cpu_end, server_end) = window[0], window[-1]
        taken = sorted(latency for latency, when in zip(latencies, ended) if start <= when < end)
        if not taken:
            raise Failure("no transaction ended within the time that counts")
        count = len(taken)
        at = lambda share: taken[min(count - 1, int(count * share))]
        return {
            "tps": count / (end - start),
            "cpu_us": (cpu_end - cpu) * 1e6 / count,
            "server_cpu_us": sum(server_end[pid] - server[pid] for pid in server.keys() & server_end.keys())
            * 1e6 / count,
            "latency_us": statistics.fmean(taken),
            "p50_us": at(0.50), "p95_us": at(0.95), "p99_us": at(0.99), "max_us": taken[-1],
            "transactions": count,
        }
