#!/usr/bin/env bash
# What Prometheus' own tools say of the metrics, the rules and the alerts, and whether each query of the dashboard has
# data: a Prometheus of its own scrapes a firepool through which FireFoundry's traffic runs.
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

# An hour of traffic, compressed into a minute, whose counts are compared at its end.
cd "$root"
cargo test --quiet --test postgres --no-run
FIREPOOL_HOUR=60 FIREPOOL_HOUR_FILE=$work/admin FIREPOOL_HOUR_TOKEN=yes \
  cargo test --quiet --test postgres -- hour:: >"$work/log" 2>&1 &
hour=$!
pids+=("$hour")
for _ in {1..600}; do
  [[ ! -s $work/admin ]] || break
  kill -0 "$hour" || { cat "$work/log"; exit 1; }
  sleep 0.1
done
read -r address token <"$work/admin"

# A real Prometheus reads it and computes the rules.
printf '%s' "$token" >"$work/token"
cat >"$work/prometheus.yml" <<TEXT
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: ["$here/rules.yml"]
scrape_configs:
  - job_name: firepool
    authorization: { credentials_file: "$work/token" }
    static_configs: [{ targets: ["$address"] }]
TEXT
promtool check config "$work/prometheus.yml"
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
  --web.listen-address=127.0.0.1:9399 >"$work/prometheus.log" 2>&1 &
pids+=($!)
sleep 30
curl --silent --show-error --fail -H "Authorization: Bearer $token" "http://$address/metrics" | promtool check metrics
python3 "$here/queries.py" http://127.0.0.1:9399 "$root/deploy/grafana/firepool.json" || {
  tail -5 "$work/prometheus.log"
  exit 1
}
wait "$hour" || { tail -20 "$work/log"; exit 1; }
grep "on all three sides" "$work/log"
