#!/usr/bin/env bash
# What Prometheus' own tools say of the metrics, the rules and the alerts, and whether each query of the dashboard has
# data: a Prometheus of its own scrapes the page of a proxy that has seen every kind of statement.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait || true
  rm -rf "$work"
}
trap stop EXIT

promtool check rules "$here/rules.yml"
(cd "$here" && promtool test rules tests.yml)

# The page of a proxy that has seen every kind of statement.
cd "$root"
FIREPOOL_METRICS_PAGE=$work/page cargo test --quiet --test postgres -- schemas::counters_by_schema >"$work/log" 2>&1 || {
  cat "$work/log"
  exit 1
}
promtool check metrics <"$work/page"

# A real Prometheus reads it, time and again, and computes the rules.
python3 "$here/page.py" "$work/page" >"$work/port" &
pids+=($!)
until [[ -s $work/port ]]; do sleep 0.1; done
cat >"$work/prometheus.yml" <<TEXT
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: ["$here/rules.yml"]
scrape_configs:
  - { job_name: firepool, static_configs: [{ targets: ["127.0.0.1:$(cat "$work/port")"] }] }
TEXT
promtool check config "$work/prometheus.yml"
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
  --web.listen-address=127.0.0.1:9399 >"$work/prometheus.log" 2>&1 &
pids+=($!)
python3 "$here/queries.py" http://127.0.0.1:9399 "$root/deploy/grafana/firepool.json" || {
  tail -5 "$work/prometheus.log"
  exit 1
}
