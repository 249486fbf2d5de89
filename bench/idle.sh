#!/usr/bin/env bash
# Prints how long "waveproxy serve" takes until it answers, over 20 starts, and
# how much memory it holds when idle. Nothing leaves loopback.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/waveproxy" ./cmd/waveproxy

port=$((20000 + RANDOM % 20000))
times=()
for i in $(seq 20); do
  start=$(date +%s%N)
  WAVEPROXY_STORAGE_DIR=$dir/data WAVEPROXY_HTTP_ADDR=127.0.0.1:$port "$dir/waveproxy" serve 2>"$dir/log" &
  pid=$!
  # A connection that is accepted and answered is what ready means.
  until { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; do
    kill -0 "$pid" || { cat "$dir/log"; exit 1; }
  done
  printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
  read -r status <&3
  [[ $status == *200* ]] || { echo "not ready: $status"; exit 1; }
  times+=($((($(date +%s%N) - start) / 1000)))
  exec 3<&- 3>&-
  if ((i < 20)); then
    kill "$pid"; wait "$pid" || true; pid=
  fi
done
sleep 5
printf '%s\n' "${times[@]}" | sort -n | awk '{ t[NR] = $1 / 1000 }
  END { printf "ready after   median %.1f ms, worst of %d starts %.1f ms\n", t[int((NR + 1) / 2)], NR, t[NR] }'
awk '/VmRSS/ { printf "idle memory   %.1f MiB resident", $2 / 1024 } /RssAnon/ { printf " (%.1f MiB of it not shared with the file)\n", $2 / 1024 }' "/proc/$pid/status"
stat -c %s "$dir/waveproxy" | awk '{ printf "binary        %.1f MiB\n", $1 / 1048576 }'
