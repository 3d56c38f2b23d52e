# The demo's own Longshore: `longshore dev` in the background, its data under .demo/.
# shellcheck shell=bash

BINARY=${CARGO_TARGET_DIR:-target}/debug/longshore

port_taken() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# The default port, or the first free one after it.
free_port() {
  local port=7420
  while port_taken "$port"; do port=$((port + 1)); done
  echo "$port"
}

dev_running() {
  local pid
  pid=$(cat "$STATE/dev.pid" 2>/dev/null) && grep -qsz '^dev$' "/proc/$pid/cmdline"
}

# Sets LONGSHORE_URL for the commands that follow.
start_dev() {
  local port
  port=$(free_port)
  export LONGSHORE_URL=http://127.0.0.1:$port
  # Its login is kept with its data, not with the logins of whoever runs the demo.
  export XDG_CONFIG_HOME=$PWD/$STATE/config
  mkdir -p "$STATE"
  setsid nohup "$BINARY" dev --data-dir "$STATE/data" --listen "127.0.0.1:$port" \
    >"$STATE/dev.log" 2>&1 </dev/null &
  echo "$!" >"$STATE/dev.pid"
  # Until it has become the program, nothing tells it from this script.
  while kill -0 "$!" 2>/dev/null && ! dev_running; do sleep 0.02; done
  until_ready 60 dev_ready && return
  tail -n 20 "$STATE/dev.log" >&2
  refuse "longshore dev did not become ready within 60 seconds; its log is $STATE/dev.log"
}

dev_ready() {
  dev_running || refuse "longshore dev ended: $(tail -n 5 "$STATE/dev.log")"
  "$BINARY" agents ls 2>/dev/null | grep -qw online
}

dev_gone() {
  ! dev_running
}

stop_dev() {
  dev_running || return 0
  kill "$(cat "$STATE/dev.pid")"
  until_ready 30 dev_gone || kill -KILL "$(cat "$STATE/dev.pid")"
  rm -f "$STATE/dev.pid"
}
