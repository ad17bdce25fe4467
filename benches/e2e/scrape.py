#!/usr/bin/env python3
"""Whether a scrape moves the latency of clients that work, while many others are connected and idle.

Starts PostgreSQL and firepool on the loopback interface, connects IDLE clients that do nothing, and has a few clients work
at a pace, in turns: for one stretch nobody scrapes, for the next one somebody scrapes five times a second, which is 75 times
as often as Prometheus does by default. Prints the p50 and p99 of both. The clients work at a pace, and not as fast as they
can, because a machine that is full shows its own queues and not what a scrape adds.

    python3 benches/e2e/scrape.py [--idle 10000] [--stretches 6] [--firepool target/release/firepool]
"""

import argparse
import os
import resource
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)

import servers  # noqa: E402 pylint: disable=wrong-import-position

ACTIVE = 4
PACE = 0.005
SCRAPES = 0.2


def message(tag, body):
    return tag + struct.pack("!I", len(body) + 4) + body


def read_until_ready(sock):
    data = b""
    while not data.endswith(b"Z\0\0\0\5I"):
        read = sock.recv(65536)
        if not read or b"FATAL" in read:
            raise servers.Failure(f"a client was not let in: {read!r}")
        data += read


def login(port):
    """A rule lets everybody in without a proof: this is not about passwords."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    parameters = f"user\0{servers.USER}\0database\0{servers.DATABASE}\0\0".encode()
    sock.sendall(struct.pack("!II", len(parameters) + 8, 3 << 16) + parameters)
    read_until_ready(sock)
    return sock


def work(sock, until, taken):
    """Looks up accounts, one after the other, at a pace."""
    number = 0
    while time.monotonic() < until:
        number += 1
        query = f"SELECT abalance FROM pgbench_accounts WHERE aid = {number % 90_000 + 1}\0".encode()
        start = time.perf_counter()
        sock.sendall(message(b"Q", query))
        read_until_ready(sock)
        taken.append(time.perf_counter() - start)
        time.sleep(PACE)


def scrape(port, until, taken):
    while time.monotonic() < until:
        start = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            answer.read()
        taken.append(time.perf_counter() - start)
        time.sleep(SCRAPES)


def stretch(clients, seconds, admin):
    """What clients' queries have taken, and scrapes, if there are any."""
    until, taken, scrapes = time.monotonic() + seconds, [], []
    threads = [threading.Thread(target=work, args=(client, until, taken)) for client in clients]
    if admin:
        threads.append(threading.Thread(target=scrape, args=(admin, until, scrapes)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, scrapes


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6


def configuration(workshop, server, ports, idle):
    return workshop.write("scrape.toml", f"""
[proxy]
listen = ["127.0.0.1:{ports[0]}"]
max_clients = {idle + 100}
[admin]
listen = "127.0.0.1:{ports[1]}"
[authentication]
max_logins = {idle + 100}
[[rules]]
method = "trust"
[targets.main]
host = "{workshop.home}"
port = {server.port}
[users.{servers.USER}]
password = "{workshop.password}"
[[routes]]
pool_size = 8
""")


def measure(options, workshop):
    server = servers.PostgreSQL(workshop, 50, 1)
    ports = servers.free_port(), servers.free_port()
    path = configuration(workshop, server, ports, options.idle)
    binary = os.path.abspath(options.firepool)
    process = workshop.spawn("firepool", [binary, "serve", "--config", path])

    def ready():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    try:
        process.wait_for(ready)
        start = time.monotonic()
        idle = [login(ports[0]) for _ in range(options.idle)]
        print(f"{len(idle)} idle clients after {time.monotonic() - start:.0f} s")
        clients = [login(ports[0]) for _ in range(ACTIVE)]
        stretch(clients, 2, ports[1])
        rounds = []
        for _ in range(options.stretches):
            quiet, _ = stretch(clients, options.seconds, None)
            scraped, scrapes = stretch(clients, options.seconds, ports[1])
            rounds.append((quiet, scraped, scrapes))
        return rounds
    finally:
        process.stop()
        server.stop()


def report(rounds):
    print("| stretch | queries | p50 us | p99 us | with scrapes: queries | p50 us | p99 us | a scrape, ms |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for number, (quiet, scraped, scrapes) in enumerate(rounds, 1):
        print(f"| {number} | {len(quiet)} | {quantile(quiet, .5):.0f} | {quantile(quiet, .99):.0f} "
              f"| {len(scraped)} | {quantile(scraped, .5):.0f} | {quantile(scraped, .99):.0f} "
              f"| {statistics.median(scrapes) * 1e3:.1f} |")
    p99 = [[quantile(taken, .99) for taken in column] for column in zip(*[(q, s) for q, s, _ in rounds])]
    quiet, scraped = map(statistics.median, p99)
    print(f"p99, median of {len(rounds)} stretches: {quiet:.0f} us without scrapes, {scraped:.0f} us with; "
          f"without scrapes alone it went from {min(p99[0]):.0f} to {max(p99[0]):.0f} us")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--stretches", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--firepool", default="target/release/firepool")
    options = parser.parse_args()
    needed = options.idle + 200
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < needed:
        sys.exit(f"{needed} open files are needed, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="firepool-scrape-") as folder:
        try:
            rounds = measure(options, servers.Workshop(folder))
        except servers.Failure as failure:
            sys.exit(str(failure))
    report(rounds)


main()
