"""Medians, ratios, and the two forms in which they are kept."""

import datetime
import json
import os
import platform
import statistics

RULES = [
    "Every subject has the same PostgreSQL, the same pool size, transaction mode, and the same pgbench command.",
    "Subjects take turns within each round, in reversed order every other round; figures are medians over rounds.",
    "Ratios are formed within a round and then their median is taken: noise that all of a round share cancels out.",
    "Warm-up and logins are outside of the time that counts; a failed transaction fails the measurement.",
    "CPU is user and system time of all threads from /proc/PID/stat, over the transactions of the same time.",
    "PostgreSQL, pgbench and the pooler share the machine's cores: throughput says how much all three cost together.",
]

COLUMNS = [
    ("tps", "tps", "{:.0f}"),
    ("pooler CPU us/txn", "cpu_us", "{:.1f}"),
    ("server CPU us/txn", "server_cpu_us", "{:.1f}"),
    ("mean us", "latency_us", "{:.0f}"),
    ("p50 us", "p50_us", "{:.0f}"),
    ("p99 us", "p99_us", "{:.0f}"),
    ("max/p50", "max_over_median", "{:.0f}"),
    ("RSS MB", "rss_mb", "{:.1f}"),
]


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


def summary(cells, baseline):
    """One row for each cell and subject."""
    rows = []
    for cell, rounds in cells:
        for name in rounds[0]:
            runs = [one[name] for one in rounds]
            median = lambda key, runs=runs: statistics.median(run[key] for run in runs)
            row = {**cell, "subject": name}
            for key in ("tps", "server_cpu_us", "latency_us", "p50_us", "p95_us", "p99_us", "max_us"):
                row[key] = median(key)
            row["max_over_median"] = statistics.median(run["max_us"] / run["p50_us"] for run in runs)
            if runs[0]["rss_kb"] is not None:
                row["cpu_us"] = median("cpu_us")
                row["rss_mb"] = median("rss_kb") / 1024
            for key in ("tps", "cpu_us", "p99_us"):
                if baseline in rounds[0] and key in row and rounds[0][baseline]["rss_kb"] is not None:
                    row[f"{key}_ratio"] = statistics.median(one[name][key] / one[baseline][key] for one in rounds)
            low, high = min(run["tps"] for run in runs), max(run["tps"] for run in runs)
            row["tps_spread"] = (high - low) / row["tps"]
            rows.append(row)
    return rows


def table(rows, baseline):
    titles = [title for title, _, _ in COLUMNS]
    head = ["pool", "protocol", "clients", "subject", *titles, f"tps / {baseline}", f"CPU / {baseline}"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * 4 + "---:|" * (len(head) - 4)]
    for row in rows:
        cells = [str(row["pool"]), row["protocol"], str(row["clients"]), row["subject"]]
        cells += [form.format(row[key]) if key in row else "" for _, key, form in COLUMNS]
        cells += [f"{row[key]:.2f}" if key in row else "" for key in ("tps_ratio", "cpu_us_ratio")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def markdown(facts, rows, baseline):
    spread = max((row["tps_spread"] for row in rows), default=0)
    lines = [
        f"# Side by side, {facts['machine']['date']}", "",
        "`" + f"benches/e2e/run {facts['arguments']}".rstrip() + "`", "",
        f"- Machine: {facts['machine']['cores_usable']} of {facts['machine']['cores']} cores, "
        f"{facts['machine']['cpu']}, Linux {facts['machine']['kernel']}, {facts['machine']['postgresql']}",
        f"- Load average before: {facts['machine']['load_average_before']}; "
        f"taken by other programs: {facts['others']:.0%} of the machine, by the hypervisor: {facts['stolen']:.1%}; "
        f"largest spread of tps between rounds: {spread:.0%}",
        f"- Load: {facts['load']}; {facts['rounds']} rounds of {facts['seconds']} s after {facts['warm_up']} s of "
        f"warm-up; poolers reach the server over {facts['server']}, clients reach the poolers over TCP",
        *(f"- {name}: {version}" for name, version in facts["versions"].items()),
        *(f"- {rule}" for rule in RULES), "",
        table(rows, baseline), "",
    ]
    return "\n".join(lines)


def keep(folder, facts, cells, baseline):
    """Writes both files; the Markdown, and where it is."""
    rows = summary(cells, baseline)
    text = markdown(facts, rows, baseline)
    os.makedirs(folder, exist_ok=True)
    stem = os.path.join(folder, "e2e-" + facts["machine"]["date"].replace(":", "")[:17])
    with open(stem + ".md", "w", encoding="utf-8") as file:
        file.write(text)
    runs = [{"cell": cell, "rounds": rounds} for cell, rounds in cells]
    with open(stem + ".json", "w", encoding="utf-8") as file:
        json.dump({"facts": facts, "rules": RULES, "baseline": baseline, "summary": rows, "runs": runs}, file, indent=1)
    return text, stem
