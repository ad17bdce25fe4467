"""One run of a suite: a cluster of its own, perhaps firepool in front of it, and PostgreSQL's driver."""

import os
import re
import shutil
import signal
import time

import sources
from servers import Failure, free_port

USER = "postgres"
DATABASES = {"regress": "regression", "isolation": "isolation_regression"}
# Two lines of one test: `test name ... ok 12 ms` up to PostgreSQL 15, `not ok 7 + name 12 ms` after it.
OLD = re.compile(r"^(?:test)?\s+(\S+)\s+\.\.\. (ok|FAILED|failed)")
NEW = re.compile(r"^(ok|not ok) \d+\s+[-+] (\S+)")


def cluster(workshop, name):
    """A fresh cluster as `make installcheck` would find one: locale C and everything else as it comes.

    It need not survive a crash, so nothing waits for the disk. Prepared transactions are on, as in the cluster that
    `make check` makes: the tests of them would be skipped.
    """
    program, port = workshop.program, free_port()
    data = workshop.path("home", f"data-{name}")
    secret = workshop.write("pw", workshop.password)
    workshop.call(program("initdb"), "-D", data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}",
                  "--no-sync", "--locale=C", "--encoding=UTF8")
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": workshop.home,
                "fsync": "off", "max_prepared_transactions": 2, "log_line_prefix": "%m %b[%p] %q%a "}
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    # SIGINT is the fast shutdown, which does not wait for clients.
    process = workshop.spawn(f"postgresql-{name}", [program("postgres"), "-D", data, *options], signal.SIGINT)
    return started(workshop, port, process)


def firepool(workshop, name, binary, server, mode, size):
    """firepool with one pool for each database: the tests connect to several, as one user."""
    port = free_port()
    config = workshop.write(f"firepool-{name}.toml", f"""
[proxy]
listen = ["127.0.0.1:{port}"]
[admin]
listen = ""
[timeouts]
query_wait = "60s"
[targets.main]
host = "127.0.0.1"
port = {server}
[users.{USER}]
password = "{workshop.password}"
[[routes]]
mode = "{mode}"
reuse = false
pool_size = {size}
""")
    process = workshop.spawn(f"firepool-{name}", [binary, "serve", "--config", config])
    return started(workshop, port, process)


def started(workshop, port, process):
    def answers():
        try:
            workshop.call(workshop.program("psql"), "-X", "-h", "127.0.0.1", "-p", str(port), "-U", USER,
                          "-c", "SELECT 1", "postgres")
        except Failure:
            return False
        return True

    try:
        process.wait_for(answers)
    except BaseException:
        process.stop()
        raise
    return port, process


class Pass:
    """One mode of one suite; `run` tells how each test ended."""

    def __init__(self, workshop, kept, options, mode):
        self.workshop, self.options, self.mode = workshop, options, mode
        self.suite = "isolation" if options.isolation else "regress"
        self.name = mode if self.suite == "regress" else f"{mode}-isolation"
        self.kept = os.path.join(kept, self.name)
        self.output = workshop.path("home", f"output-{self.name}")

    def run(self, drivers, binary, source, lib):
        """Test name -> whether it succeeded; tests without a word of theirs have failed."""
        shutil.rmtree(self.kept, ignore_errors=True)
        os.makedirs(self.kept)
        os.mkdir(self.output, 0o755)
        self.workshop.own(self.output)
        processes, proxy = [], None
        try:
            port, server = cluster(self.workshop, self.name)
            processes.append(server)
            if self.mode != "direct":
                size = self.options.pool_size
                port, proxy = firepool(self.workshop, self.name, binary, port, self.mode, size)
                processes.append(proxy)
            results = self.drive(drivers[self.suite], source, lib, port)
            if proxy and proxy.child.poll() is not None:
                raise Failure(f"{self.name}: firepool has ended by itself:\n{proxy.words()}")
            return results
        finally:
            for process in reversed(processes):
                process.stop()
                shutil.copy(process.log, self.kept)
            self.keep()

    def drive(self, driver, source, lib, port):
        wanted = sources.schedule(source, self.suite)
        command = [driver, f"--inputdir={source}/src/test/{self.suite}", f"--outputdir={self.output}",
                   f"--bindir={self.workshop.bin}", f"--dlpath={lib}", "--max-concurrent-tests=20",
                   f"--dbname={DATABASES[self.suite]}", "--host=127.0.0.1", f"--port={port}", f"--user={USER}"]
        if self.suite == "regress" and self.options.max_connections:
            command.append(f"--max-connections={self.options.max_connections}")
        if self.options.tests:
            # What nearly every other test needs comes first, as in the schedule.
            first = ["test_setup"] if self.suite == "regress" else []
            wanted = list(dict.fromkeys(first + self.options.tests))
            command += wanted
        else:
            command.append(f"--schedule={source}/src/test/{self.suite}/"
                           + ("parallel_schedule" if self.suite == "regress" else "isolation_schedule"))
        # A step of an isolation test that nobody wakes is given up after this many seconds.
        os.environ["PGISOLATIONTIMEOUT"] = str(max(10, self.options.test_limit // 4))
        process = self.workshop.spawn(f"driver-{self.name}", command, signal.SIGTERM)
        try:
            self.watch(process)
        finally:
            process.stop()
            shutil.copy(process.log, os.path.join(self.kept, "regression.out"))
        with open(process.log, encoding="utf-8", errors="replace") as log:
            results = dict(filter(None, map(outcome, log)))
        if not results:
            raise Failure(f"{self.name}: no test ran:\n{process.words()}")
        return {test: results.get(test, False) for test in wanted}

    def watch(self, driver):
        """Waits for the driver's end, and ends single tests that take too long, so that the others get their turn."""
        seen, deadline = {}, time.monotonic() + 60 * self.options.limit
        while driver.child.poll() is None:
            time.sleep(0.2)
            now, alive = time.monotonic(), children(driver.pid)
            seen = {pid: seen.get(pid, now) for pid in alive}
            if now > deadline:
                print(f"{self.name}: gave up after {self.options.limit:g} minutes", flush=True)
                return
            for pid in [pid for pid, since in seen.items() if now - since > self.options.test_limit]:
                print(f"{self.name}: ended a test after {self.options.test_limit} s: {command_of(pid)}", flush=True)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def keep(self):
        """What is worth reading afterwards."""
        for name in ("regression.diffs", "results"):
            path = os.path.join(self.output, name)
            if os.path.isdir(path):
                shutil.copytree(path, os.path.join(self.kept, name))
            elif os.path.exists(path):
                shutil.copy(path, self.kept)


def outcome(line):
    """The test that a line of the driver's tells of, and whether it succeeded."""
    if found := OLD.match(line):
        return found[1], found[2] == "ok"
    if found := NEW.match(line):
        return found[2], found[1] == "ok"
    return None


def children(parent):
    """The processes that `parent` has started, from /proc/PID/stat: what follows the name is state and parent."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            found.append(int(pid))
    return found


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "it has ended by itself"
