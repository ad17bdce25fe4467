"""Medians, ratios, and the forms in which they are kept."""

import datetime
import json
import os
import platform
import statistics

import plots

RULES = [
    "Every subject of a setup has the same PostgreSQL, pool size, mode, and client command. What has no pool of "
    "transactions (PostgreSQL itself, pgpool, haproxy) opens a server connection for each client.",
    "Before anything is measured, each subject has to give back the server's own rows: a large result, and to many "
    "clients at once each its own, in the simple and the extended protocol and with prepared statements.",
    "Subjects run side by side and take turns within each round, in reversed order every other round; figures are "
    "medians over rounds.",
    "Ratios are formed within a round and then their median is taken: noise that all of a round share cancels out.",
    "Warm-up and logins are outside of the time that counts (but for `connect`, which is about logins); a failed "
    "transaction fails the measurement.",
    "CPU is user and system time of all threads and processes of the pooler, from /proc/PID/stat, over the transactions "
    "of the same time. For COPY, a transaction is a megabyte, and percentiles are those of whole COPYs.",
    "PostgreSQL, the clients and the pooler share the machine's cores: throughput says how much all three cost together.",
    "Idle clients: resident memory after so many have logged in, less that before, with 100 that had come and gone.",
]

COLUMNS = [
    ("tps", "tps", "{:.0f}"),
    ("CPU us", "cpu_us", "{:.1f}"),
    ("user", "user_us", "{:.1f}"),
    ("system", "system_us", "{:.1f}"),
    ("server CPU us", "server_cpu_us", "{:.1f}"),
    ("mean us", "latency_us", "{:.0f}"),
    ("p50", "p50_us", "{:.0f}"),
    ("p99", "p99_us", "{:.0f}"),
    ("p99.9", "p999_us", "{:.0f}"),
    ("RSS MB", "rss_mb", "{:.1f}"),
]

RATIOS = [("tps", "tps"), ("CPU", "cpu_us"), ("p99", "p99_us"), ("mean", "latency_us")]


def load_average():
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def limits(server):
    """What the machine is, and how busy it was with other things when this began."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cores": os.cpu_count(), "cores_usable": len(os.sched_getaffinity(0)), "cpu": model,
        "kernel": platform.release(), "postgresql": server.version(), "load_average_before": load_average(),
    }


def summary(done, baseline):
    """One row for each cell and subject."""
    rows = []
    for cell, rounds in done:
        if cell.load == "idle":
            continue
        for name in rounds[0]:
            runs = [one[name] for one in rounds]
            median = lambda key, runs=runs: statistics.median(run[key] for run in runs)
            row = {"setup": cell.setup.words(), "load": cell.load, "clients": cell.clients, "subject": name}
            for key in ("tps", "server_cpu_us", "latency_us", "p50_us", "p95_us", "p99_us", "p999_us", "max_us"):
                row[key] = median(key)
            if runs[0]["rss_kb"] is not None:
                row.update({key: median(key) for key in ("cpu_us", "user_us", "system_us")})
                row["rss_mb"] = median("rss_kb") / 1024
            for _, key in RATIOS:
                base = rounds[0].get(baseline)
                if base and key in row and (key != "cpu_us" or base["rss_kb"] is not None):
                    pairs = [(one[name][key], one[baseline][key]) for one in rounds]
                    if all(below for _, below in pairs):
                        row[f"{key}_ratio"] = statistics.median(above / below for above, below in pairs)
            low, high = min(run["tps"] for run in runs), max(run["tps"] for run in runs)
            row["tps_spread"] = (high - low) / row["tps"]
            rows.append(row)
    return rows


def table(rows, baseline):
    head = ["load", "clients", "subject", *(title for title, _, _ in COLUMNS),
            *(f"{title} / {baseline}" for title, _ in RATIOS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * 3 + "---:|" * (len(head) - 3)]
    for row in rows:
        cells = [row["load"], str(row["clients"]), row["subject"]]
        cells += [form.format(row[key]) if key in row else "" for _, key, form in COLUMNS]
        cells += [f"{row[key + '_ratio']:.2f}" if key + "_ratio" in row else "" for _, key in RATIOS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def idle_table(done):
    lines = []
    for cell, rounds in done:
        if cell.load != "idle":
            continue
        for name, run in rounds[0].items():
            lines.append(f"| {cell.clients} | {'TLS' if cell.setup.tls else 'plain'} | {name} "
                         f"| {run['bytes_per_client']:.0f} | {run['bytes_after_query']:.0f} "
                         f"| {run['rss_kb'] / 1024:.1f} | {run['login_us']:.0f} "
                         f"| {run['logins_per_second']:.0f} |")
    if not lines:
        return []
    head = "| idle clients | | subject | bytes a client | after a query | RSS MB | CPU us a login | logins a second, one by one |"
    return ["", "## Idle clients", "", head, "|---:|---|---|---:|---:|---:|---:|---:|", *lines]


def modes_table(rows):
    """What transaction mode costs over session mode, where both were measured."""
    lines = []
    for row in rows:
        if "session mode" not in row["setup"] or "cpu_us" not in row:
            continue
        key = (row["setup"].replace("session mode", "transaction mode"), row["load"], row["clients"], row["subject"])
        for other in rows:
            if (other["setup"], other["load"], other["clients"], other["subject"]) == key:
                lines.append(f"| {row['load']} | {row['clients']} | {row['subject']} | {row['cpu_us']:.1f} "
                             f"| {other['cpu_us']:.1f} | {other['cpu_us'] / max(row['cpu_us'], 0.01):.2f} |")
    if not lines:
        return []
    head = "| load | clients | subject | session mode, CPU us | transaction mode, CPU us | ratio of medians |"
    return ["", "## Transaction mode against session mode", "", head, "|---|---:|---|---:|---:|---:|", *lines]


def markdown(facts, done, rows, baseline, drawn):
    spread = max((row["tps_spread"] for row in rows), default=0)
    machine = facts["machine"]
    lines = [
        f"# Side by side, {machine['date']}", "",
        "`" + f"benches/e2e/run {facts['arguments']}".rstrip() + "`", "",
        f"- Machine: {machine['cores_usable']} of {machine['cores']} cores, {machine['cpu']}, Linux {machine['kernel']}, "
        f"{machine['postgresql']}",
        f"- Load average before: {machine['load_average_before']}; taken by other programs: {facts['others']:.0%} of the "
        f"machine, by the hypervisor: {facts['stolen']:.1%}; largest spread of tps between rounds: {spread:.0%}",
        f"- {facts['rounds']} rounds of {facts['seconds']} s after {facts['warm_up']} s of warm-up; clients reach the "
        "poolers over TCP",
        *(f"- {name}: {version}" for name, version in facts["versions"].items()),
        *(f"- Not measured, because rows were wrong or missing: {one}" for one in facts["cannot"]),
        *(f"- {rule}" for rule in RULES),
    ]
    for setup in dict.fromkeys(row["setup"] for row in rows):
        lines += ["", f"## {setup}", "", table([row for row in rows if row["setup"] == setup], baseline)]
    lines += modes_table(rows) + idle_table(done)
    lines += ["", *(f"![{name}]({name})" for name in drawn), ""]
    return "\n".join(lines)


def keep(folder, facts, done, baseline):
    """Writes all files; the Markdown, and where it is."""
    rows = summary(done, baseline)
    os.makedirs(folder, exist_ok=True)
    stem = os.path.join(folder, "e2e-" + facts["machine"]["date"].replace(":", "")[:17])
    text = markdown(facts, done, rows, baseline, plots.keep(stem, rows))
    with open(stem + ".md", "w", encoding="utf-8") as file:
        file.write(text)
    runs = [{"setup": cell.setup.words(), "load": cell.load, "clients": cell.clients, "rounds": rounds}
            for cell, rounds in done]
    with open(stem + ".json", "w", encoding="utf-8") as file:
        json.dump({"facts": facts, "rules": RULES, "baseline": baseline, "summary": rows, "runs": runs}, file, indent=1)
    return text, stem
