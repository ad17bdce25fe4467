"use strict";
// Asks every two seconds while somebody looks, keeps two minutes of it, and draws. What comes from clients is only ever text.
(() => {
const EVERY = 2000, PATIENCE = 5000, STALE = 7000, WINDOW = 5, POINTS = 60, STUCK = 3000;
const KEY = "firepool-token", SVG = "http://www.w3.org/2000/svg";
const id = (name) => document.getElementById(name);
let history = [], sparks = new Map(), timer = 0, paused = false, asking = false, heard = 0, trouble = "", turn = 0, locked = false;
let token = "";
try { token = sessionStorage.getItem(KEY) || ""; } catch { /* kept in this page only */ }

function node(kind, text, style) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (style) made.className = style;
  return made;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
function count(n) { return whole.format(n); }
function rate(n) { return n === 0 ? "0" : n < 10 ? n.toFixed(n < 0.095 ? 2 : 1) : count(n); }
function time(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds === Infinity) return "> 30 s";
  if (seconds < 0.001) return (seconds * 1e6).toFixed(0) + " µs";
  if (seconds < 1) return (seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0) + " ms";
  return seconds < 100 ? seconds.toFixed(1) + " s" : lasting(seconds);
}
function bytes(n) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (n < 1000) return (n < 10 && unit !== "B" ? n.toFixed(1) : n.toFixed(0)) + " " + unit;
    n /= 1000;
  }
  return n.toFixed(1) + " TB";
}
function lasting(seconds) {
  const all = Math.abs(seconds), sign = seconds < 0 ? "-" : "";
  if (all < 120) return sign + all.toFixed(0) + " s";
  if (all < 7200) return sign + (all / 60).toFixed(0) + " min";
  if (all < 172800) return sign + (all / 3600).toFixed(0) + " h";
  return sign + (all / 86400).toFixed(0) + " days";
}

// A table: headings, and rows of cells. A cell is text, [text, class], or an element.
function table(name, caption, heads, rows, none) {
  const body = node("tbody"), head = node("thead"), top = node("tr");
  for (const [text, style] of heads) {
    const cell = node("th", text, style);
    cell.scope = "col";
    top.append(cell);
  }
  head.append(top);
  for (const cells of rows) {
    const row = node("tr");
    cells.forEach((cell, place) => {
      const style = (heads[place][1] || "") + (Array.isArray(cell) ? " " + cell[1] : "");
      const made = node(place === 0 ? "th" : "td", undefined, style.trim());
      if (place === 0) made.scope = "row";
      if (cell instanceof Element) made.append(cell);
      else made.textContent = Array.isArray(cell) ? cell[0] : cell;
      row.append(made);
    });
    body.append(row);
  }
  if (rows.length === 0) {
    const row = node("tr"), cell = node("td", none || "none");
    cell.colSpan = heads.length;
    row.append(cell);
    body.append(row);
  }
  const at = id(name);
  at.setAttribute("aria-label", caption);
  at.replaceChildren(head, body);
}

// The last two minutes of a figure, as a line from its left to its right.
function spark(key, value, what) {
  const points = sparks.get(key) || [];
  points.push(value);
  if (points.length > POINTS) points.shift();
  fresh.set(key, points);
  const most = Math.max(...points, 1e-9), width = 96, height = 20;
  const svg = document.createElementNS(SVG, "svg"), line = document.createElementNS(SVG, "polyline");
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", what + ", two minutes, at most " + rate(most));
  const place = (point, n) =>
    (width - (points.length - 1 - n) * (width / (POINTS - 1))).toFixed(1) + "," + (height - 1 - (point / most) * (height - 2)).toFixed(1);
  line.setAttribute("points", points.map(place).join(" "));
  svg.append(line);
  return svg;
}
let fresh = new Map();

// How much a counter has grown each second since `before`. One that is new or was reset has grown from nothing.
function grown(now, before, name, seconds) {
  const from = before ? before[name] : 0;
  const by = now[name] - (now[name] >= from ? from : 0);
  return seconds > 0 ? by / seconds : 0;
}
function quantile(bounds, buckets, q) {
  const all = buckets.reduce((sum, n) => sum + n, 0);
  if (all === 0) return null;
  let below = 0;
  for (let n = 0; n < buckets.length; n++) {
    if (below + buckets[n] >= q * all) {
      if (n >= bounds.length) return Infinity;
      const low = n ? bounds[n - 1] : 0;
      return low + (bounds[n] - low) * ((q * all - below) / buckets[n]);
    }
    below += buckets[n];
  }
  return Infinity;
}
const find = (list, as, ...names) => list && list.find((one) => names.every((name) => one[name] === as[name]));

function draw(live) {
  const last = history[history.length - 1], old = history[0];
  const seconds = last ? (live.now - last.now) / 1000 : 0, window = old ? (live.now - old.now) / 1000 : 0;
  fresh = new Map();
  const totals = drawSchemas(live, old, window, last, seconds);
  drawNow(live, last, seconds, totals);
  drawPools(live, old, window);
  drawRest(live, old, window);
  sparks = fresh;
  history.push(live);
  if (history.length > WINDOW) history.shift();
}

function drawNow(live, last, seconds, busy) {
  let statements = 0, errors = 0, clients = 0, waiting = 0, active = 0, size = 0;
  for (const pool of live.pools) {
    const before = last && find(last.pools, pool, "database", "user");
    if (last) {
      statements += grown(pool, before, "queries", seconds);
      errors += grown(pool, before, "errors", seconds);
    }
    clients += pool.clients;
    waiting += pool.waiting;
    active += pool.active;
    size += pool.size;
  }
  const tiles = [
    ["queries a second", statements, rate(statements)],
    ["errors a second", errors, rate(errors), errors > 0 ? "warn" : ""],
    ["clients", clients, count(clients)],
    ["waiting for a server connection", waiting, count(waiting), waiting > 0 ? "bad" : ""],
    ["server connections in use", active, count(active) + " of " + count(size), active >= size && size ? "warn" : ""],
    ["busy with statements", busy, rate(busy)],
  ];
  id("now").replaceChildren(...tiles.map(([what, value, text, style]) => {
    const tile = node("div");
    tile.append(node("b", text, style), node("span", what), spark("now " + what, value, what));
    return tile;
  }));
}

function drawPools(live, old, window) {
  const rows = live.pools.map((pool) => {
    const before = old && find(old.pools, pool, "database", "user");
    const of = (name) => (old ? grown(pool, before, name, window) : 0);
    const waits = of("waits"), lost = of("lost") + of("failed");
    return [
      pool.database,
      pool.user,
      pool.mode + (pool.read_only ? ", read-only" : ""),
      count(pool.clients),
      [count(pool.waiting), pool.waiting > 0 ? "bad" : ""],
      [count(pool.active) + " of " + count(pool.size) + (pool.reserve ? " + " + pool.reserve : ""), pool.active >= pool.size ? "warn" : ""],
      count(pool.idle),
      count(pool.opening),
      rate(of("queries")),
      [rate(of("errors")), of("errors") > 0 ? "warn" : ""],
      rate(waits),
      time(waits > 0 ? of("wait_seconds") / waits : null),
      [rate(lost), lost > 0 ? "bad" : ""],
      spark(["pool", pool.database, pool.user].join("\0"), of("queries"), "queries a second"),
    ];
  });
  if (live.pools_left_out) rows.push(["and " + live.pools_left_out + " more", ...Array(13).fill("")]);
  table("pools", "Pools", [
    ["database"], ["user"], ["mode"], ["clients", "n"], ["waiting", "n"], ["in use", "n"], ["idle", "n"], ["opening", "n"],
    ["queries/s", "n"], ["errors/s", "n"], ["waits/s", "n"], ["mean wait", "n"], ["lost/s", "n"], ["two minutes"],
  ], rows, "No client has come yet.");
}

function drawSchemas(live, old, window, last, seconds) {
  let busy = 0;
  const rows = live.schemas.map((schema) => {
    const before = old && find(old.schemas, schema, "database", "schema");
    const of = (name) => (old ? grown(schema, before, name, window) : 0);
    const from = before && before.buckets.every((n, at) => n <= schema.buckets[at]) ? before.buckets : [];
    const buckets = schema.buckets.map((n, at) => (old ? n - (from[at] || 0) : 0));
    const statements = of("statements"), errors = of("errors");
    if (last) busy += grown(schema, find(last.schemas, schema, "database", "schema"), "seconds", seconds);
    return { statements, cells: [
      schema.schema,
      schema.database,
      rate(statements),
      rate(of("rows")),
      [rate(errors), errors > 0 ? "warn" : ""],
      bytes(of("sent")),
      time(statements + errors > 0 ? of("seconds") / (statements + errors) : null),
      time(quantile(live.bounds, buckets, 0.5)),
      time(quantile(live.bounds, buckets, 0.99)),
      rate(of("seconds")),
      time(of("wait_seconds") || null),
      spark(["schema", schema.database, schema.schema].join("\0"), statements, "statements a second"),
    ] };
  });
  rows.sort((a, b) => b.statements - a.statements);
  const cells = rows.map((row) => row.cells);
  if (live.schemas_left_out) cells.push(["and " + live.schemas_left_out + " more", ...Array(11).fill("")]);
  table("schemas", "Schemas", [
    ["schema"], ["database"], ["statements/s", "n"], ["rows/s", "n"], ["errors/s", "n"], ["sent/s", "n"], ["mean", "n"],
    ["p50", "n"], ["p99", "n"], ["busy", "n"], ["waited/s", "n"], ["two minutes"],
  ], cells, "Nothing was counted yet.");
  return busy;
}

function drawRest(live, old, window) {
  const all = (object) => Object.entries(object).sort((a, b) => b[1] - a[1]);
  const since = (map, name) => {
    if (!old) return "0";
    const now = { n: live[map][name] }, before = { n: old[map][name] || 0 };
    return rate(grown(now, before, "n", window));
  };
  table("pins", "Pins", [["reason"], ["user"], ["database"], ["now", "n"], ["in all", "n"]],
    live.pins.map((pin) => [pin.reason, pin.user, pin.database, [count(pin.now), pin.now ? "warn" : ""], count(pin.total)]));
  table("guarded", "Refused by read-only routes", [["rule"], ["user"], ["database"], ["in all", "n"]],
    live.guarded.map((one) => [one.rule, one.user, one.database, count(one.total)]));
  table("refusals", "Refused or ended", [["kind"], ["a second", "n"], ["in all", "n"]],
    all(live.refusals).map(([kind, n]) => [kind, since("refusals", kind), count(n)]));
  table("logins", "Logins", [["result"], ["a second", "n"], ["in all", "n"]], [
    ...all(live.logins).filter(([result]) => result === "ok").map(([result, n]) => [result, since("logins", result), count(n)]),
    ...all(live.login_failures).map(([reason, n]) => [reason, since("login_failures", reason), count(n)]),
  ]);
  const good = live.config.reloaded;
  table("config", "Configuration", [["what"], ["state"]], [
    ["version", live.version],
    ["configuration", live.config.hash],
    ["last reload", good ? "took everything" : ["failed: older files are in use", "bad"]],
    ["last success", lasting(live.now / 1000 - live.config.at) + " ago"],
    ["ready", live.not_ready ? [live.not_ready, "bad"] : "yes"],
  ]);
  table("certificates", "Certificates", [["role"], ["file"], ["expires in", "n"]], live.certificates.map((one) => {
    const left = one.until - live.now / 1000;
    return [one.role, one.file, [lasting(left), left < 7 * 86400 ? "bad" : left < 30 * 86400 ? "warn" : ""]];
  }));
  table("tls", "TLS", [["leg"], ["encrypted now", "n"], ["TLS 1.2", "n"], ["TLS 1.3", "n"], ["failed", "n"]],
    live.tls.map((leg) => [leg.leg + "s", count(leg.open), count(leg.v1_2), count(leg.v1_3), count(leg.failed)]));
  table("workers", "Workers", [["worker"], ["state"], ["connections", "n"]], live.workers.map((worker, n) => {
    const age = live.now - worker.seen;
    const state = age > STUCK ? [worker.seen ? "not seen for " + lasting(age / 1000) : "never seen", "bad"] : "runs";
    return [String(n), state, count(worker.clients)];
  }));
}

function drawStatements(page) {
  const heads = [["statement", "text"], ["user"], ["database"], ["schemas"], ["calls", "n"], ["rows", "n"], ["errors", "n"], ["total", "n"],
    ["mean", "n"], ["p50", "n"], ["p95", "n"], ["p99", "n"], ["waited", "n"]];
  table("statements", "Top statements", heads, page.statements.map((one) => {
    return [[one.statement, "text"], one.user, one.database, (one.schemas || []).join(", "), count(one.calls), count(one.rows),
      [count(one.errors), one.errors ? "warn" : ""], time(one.total_seconds), time(one.mean_seconds), time(one.p50_seconds),
      time(one.p95_seconds), time(one.p99_seconds), time(one.wait_seconds)];
  }), "Nothing was counted yet.");
}

async function get(path) {
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const answer = await fetch(path, { headers, cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE) });
  if (answer.status === 401) {
    lock();
    throw new Error("a token is needed");
  }
  return answer;
}

async function ask() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    const answer = await get("live.json");
    if (!answer.ok) throw new Error("HTTP " + answer.status);
    const live = await answer.json();
    // A restarted process counts from nothing, and a clock that was set back would divide by less.
    if (history.length && live.now <= history[history.length - 1].now) history = [];
    draw(live);
    heard = Date.now();
    trouble = "";
    id("ask").hidden = true;
    id("main").hidden = false;
    if (turn++ % 3 === 0) await askStatements();
  } catch (error) {
    trouble = error.name === "TimeoutError" ? "no answer within 5 s" : error.message;
  } finally {
    asking = false;
    tell();
    plan();
  }
}

async function askStatements() {
  const answer = await get("statements.json?order=total&limit=20");
  if (answer.ok) return drawStatements(await answer.json());
  id("statements-note").textContent = answer.status === 404 ? "Statements are not counted here." : "HTTP " + answer.status;
}

function plan() {
  clearTimeout(timer);
  if (!document.hidden && !paused && !locked) timer = setTimeout(ask, EVERY);
}

// Says plainly how old the figures are.
function tell() {
  const age = Date.now() - heard, live = history[history.length - 1], state = id("state");
  const stale = !locked && (heard === 0 ? trouble !== "" : age > STALE || trouble !== "");
  let text = locked ? "locked" : paused ? "paused" : heard === 0 ? "asking" : "live";
  if (stale && !paused) text = heard === 0 ? "no answer: " + trouble : "stale: " + (trouble || "no answer");
  else if (!locked && live && live.not_ready) text += ", not ready: " + live.not_ready;
  if (state.textContent !== text) state.textContent = text;
  state.className = (stale && !paused) || (live && live.not_ready) ? "bad" : "";
  document.body.className = stale || (paused && age > STALE) ? "stale" : "";
  id("age").textContent = heard === 0 ? "" : "figures of " + new Date(heard).toLocaleTimeString() + ", " + lasting(age / 1000) + " ago";
}

function lock() {
  id("wrong").textContent = token ? "That is not the token." : "";
  token = "";
  try { sessionStorage.removeItem(KEY); } catch { /* nothing was kept */ }
  locked = true;
  history = [];
  sparks = new Map();
  id("main").hidden = true;
  id("ask").hidden = false;
  id("token").focus();
}

id("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = id("token").value.trim();
  id("token").value = "";
  if (/[^\x21-\x7e]/.test(token)) token = "-";
  try { sessionStorage.setItem(KEY, token); } catch { /* kept in this page only */ }
  locked = false;
  turn = 0;
  ask();
});
id("pause").addEventListener("click", () => {
  paused = !paused;
  id("pause").setAttribute("aria-pressed", String(paused));
  id("pause").textContent = paused ? "Go on" : "Pause";
  tell();
  if (paused) clearTimeout(timer);
  else ask();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!paused && !locked) ask();
});
setInterval(() => { if (!document.hidden) tell(); }, 1000);
ask();
})();
