"""Lines over the number of clients, as SVG that needs nothing else."""

import math
import os

COLOURS = ["#0b62a4", "#c0392b", "#27803b", "#8e44ad", "#b9770e", "#16808a", "#555555", "#d6408f"]

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 460, 300, 64, 34, 44, 18

METRICS = [("tps", "transactions a second"), ("cpu_us", "CPU of the pooler, us a transaction"), ("p99_us", "p99, us")]


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def ticks(top):
    """Up to six round numbers from 0 on, the last of which is not below `top`."""
    step = 10 ** math.floor(math.log10(top)) if top > 0 else 1
    for factor in (0.2, 0.5, 1, 2, 5):
        if top / (step * factor) <= 5:
            step *= factor
            break
    count = math.ceil(top / step) if top > 0 else 1
    return [step * number for number in range(count + 1)]


def panel(x, title, unit, lines, clients):
    """One chart: `lines` is name -> [(clients, value)]."""
    marks = ticks(max((value for line in lines.values() for _, value in line), default=1))
    low, high = math.log(min(clients)), math.log(max(clients))
    across = lambda count: x + LEFT + (WIDTH - LEFT - 20) * ((math.log(count) - low) / (high - low) if high > low else 0.5)
    down = lambda value: TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / marks[-1])
    parts = [f'<text x="{x + LEFT}" y="18" font-weight="bold">{escape(title)}: {escape(unit)}</text>']
    for mark in marks:
        y = down(mark)
        parts.append(f'<line x1="{x + LEFT}" y1="{y:.1f}" x2="{x + WIDTH - 20}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x + LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
    for count in clients:
        parts.append(f'<text x="{across(count):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{count}</text>')
    for number, (_, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{across(count):.1f},{down(value):.1f}" for count, value in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(count):.1f}" cy="{down(value):.1f}" r="3" fill="{colour}"/>'
                  for count, value in line]
    return parts


def draw(title, rows):
    """All metrics of one load, for all subjects."""
    clients = sorted({row["clients"] for row in rows})
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    height = HEIGHT + LEGEND * len(subjects) + 10
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * len(METRICS)}" height="{height}" '
             'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="white"/>']
    for number, (key, unit) in enumerate(METRICS):
        lines = {name: sorted((row["clients"], row[key]) for row in rows if row["subject"] == name and key in row)
                 for name in subjects}
        parts += panel(WIDTH * number, title, unit, lines, clients)
    for number, name in enumerate(subjects):
        y = HEIGHT + LEGEND * number
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<rect x="{LEFT}" y="{y}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 18}" y="{y + 10}">{escape(name)}</text>')
    parts.append("</svg>\n")
    return "\n".join(parts)


def keep(stem, rows):
    """Writes a file for each load that has more than one number of clients; their paths."""
    paths = []
    for setup, load in dict.fromkeys((row["setup"], row["load"]) for row in rows):
        own = [row for row in rows if (row["setup"], row["load"]) == (setup, load)]
        if len({row["clients"] for row in own}) < 2:
            continue
        name = "".join(letter if letter.isalnum() else "-" for letter in f"{load} {setup}").replace("--", "-")
        path = f"{stem}-{name}.svg"
        with open(path, "w", encoding="utf-8") as file:
            file.write(draw(f"{load}, {setup}", own))
        paths.append(os.path.basename(path))
    return paths
