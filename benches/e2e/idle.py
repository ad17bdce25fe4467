"""Clients that log in and then do nothing: what each costs in memory, before its first query and after it, and its login
in CPU time.

They are this process's own sockets. The salted password is computed once, as the salt of a user is always the same: what
is measured is what the pooler pays.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
import time

import processes
from servers import DATABASE, USER, Failure

# Clients that come and go first, so that what every process needs once is there.
FIRST = 100

# Clients from one address of the loopback network: below the ports that one may have.
FROM_ONE = 20_000

# Seconds until a pooler has cleaned up, or settled.
REST = 2.0

# The code of SSLRequest: `NEGOTIATE_SSL_CODE` in PostgreSQL's src/include/libpq/pqcomm.h.
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Client:
    """Who has logged in."""

    salted = {}

    def __init__(self, port, password, tls, number):
        self.password = password
        self.socket = socket.socket()
        try:
            self.socket.settimeout(60)
            self.socket.bind((f"127.0.0.{2 + number // FROM_ONE}", 0))
            self.socket.connect(("127.0.0.1", port))
            if tls:
                self.socket.sendall(SSL_REQUEST)
                if self.socket.recv(1) != b"S":
                    raise Failure("no TLS")
                self.socket = tls.wrap_socket(self.socket)
            self.login()
        except (OSError, Failure):
            self.socket.close()
            raise

    def close(self):
        self.socket.close()

    def login(self):
        body = struct.pack("!i", 196608)
        for word in ("user", USER, "database", DATABASE):
            body += word.encode() + b"\0"
        self.socket.sendall(struct.pack("!i", len(body) + 5) + body + b"\0")
        while True:
            tag, body = self.message()
            if tag == b"Z":
                return
            if tag == b"E":
                raise Failure(body.replace(b"\0", b" ").decode(errors="replace"))
            if tag == b"R" and body[3] == 10:
                self.scram()

    def exactly(self, count):
        taken = b""
        while len(taken) < count:
            part = self.socket.recv(count - len(taken))
            if not part:
                raise Failure("the connection was closed")
            taken += part
        return taken

    def message(self):
        head = self.exactly(5)
        return head[:1], self.exactly(struct.unpack("!i", head[1:])[0] - 4)

    def ask(self, number):
        """Has the server say this number."""
        query = f"SELECT {number}".encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
        rows = []
        while True:
            tag, body = self.message()
            if tag == b"Z":
                break
            if tag == b"D":
                rows.append(body[6:])
        if rows != [str(number).encode()]:
            raise Failure(f"client {number} was answered {rows}")

    def send(self, body):
        self.socket.sendall(b"p" + struct.pack("!i", len(body) + 4) + body)

    def scram(self):
        """SCRAM-SHA-256 of RFC 5802 and 7677, without channel binding."""
        bare = "n=,r=" + base64.b64encode(os.urandom(18)).decode()
        first = ("n,," + bare).encode()
        self.send(b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        said = self.message()[1][4:].decode()
        parts = dict(part.split("=", 1) for part in said.split(","))
        key = (parts["s"], parts["i"], self.password)
        if key not in self.salted:
            self.salted[key] = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(parts["s"]),
                                                   int(parts["i"]))
        client = hmac.digest(self.salted[key], b"Client Key", "sha256")
        last = "c=biws,r=" + parts["r"]
        signed = hmac.digest(hashlib.sha256(client).digest(), f"{bare},{said},{last}".encode(), "sha256")
        proof = bytes(a ^ b for a, b in zip(client, signed))
        self.send(f"{last},p={base64.b64encode(proof).decode()}".encode())


def measure(subject, cell, password):
    """The memory of each client, in bytes, and the CPU time of a login, in microseconds. All are there together, and then
    each is answered a query of its own."""
    if processes.files(cell.clients + 1000) < cell.clients + 100:
        raise Failure(f"this process may not have {cell.clients} files open: ulimit -n")
    tls = None
    if cell.setup.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    connect = lambda number: Client(subject.port, password, tls, number)
    for client in [connect(number) for number in range(FIRST)]:
        client.close()
    time.sleep(REST)
    before, cpu, began = processes.resident_kb(subject.pids), processes.cpu_seconds(subject.pids), time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(connect(number))) for number in range(cell.clients)]
        elapsed, spent = time.monotonic() - began, processes.cpu_seconds(subject.pids)
        time.sleep(REST)
        after = processes.resident_kb(subject.pids)
        for number, client in enumerate(clients):
            client.ask(number)
        time.sleep(REST)
        asked = processes.resident_kb(subject.pids)
    time.sleep(REST)
    return {
        "bytes_per_client": (after - before) * 1024 / cell.clients, "rss_kb": after,
        "bytes_after_query": (asked - before) * 1024 / cell.clients,
        "login_us": (sum(spent) - sum(cpu)) * 1e6 / cell.clients, "logins_per_second": cell.clients / elapsed,
    }
