"""Serves a page of metrics whose counters grow with each scrape, and prints the port."""

import http.server
import re
import sys

PAGE = open(sys.argv[1], encoding="utf-8").read()
COUNTERS = set(re.findall(r"# TYPE (\S+) (?:counter|histogram)", PAGE))
scrapes = 0


def grown():
    for line in PAGE.splitlines():
        name = re.match(r"[a-z_]+", line)
        base = name and re.sub(r"_(bucket|sum|count)$", "", name[0])
        if base in COUNTERS or (name and name[0] in COUNTERS):
            series, value = line.rsplit(" ", 1)
            line = f"{series} {float(value) * scrapes}"
        yield line


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global scrapes
        scrapes += 1
        body = "\n".join(grown()).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
