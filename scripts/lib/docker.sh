# Gets a Docker Engine to answer: the one that runs, else one started here.
# shellcheck shell=bash

# The kernel may know only the older of iptables' two back ends, and dockerd takes what `iptables` names.
choose_iptables() {
  if nat_works iptables || ! nat_works iptables-legacy; then return 0; fi
  local old
  old=$(readlink -f "$(command -v iptables)")
  update-alternatives --set iptables "$(command -v iptables-legacy)" >/dev/null
  remember alternative "iptables $old"
  say "    iptables now means iptables-legacy: this kernel does not know nftables"
}

start_dockerd() {
  choose_iptables
  if has_systemd; then
    systemctl start docker
    remember service docker
    return
  fi
  mkdir -p "$STATE"
  raise_files
  setsid nohup dockerd >"$STATE/dockerd.log" 2>&1 </dev/null &
  remember dockerd "$!"
}

raise_files() {
  ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
}

docker_answers_or_is_dead() {
  docker_answers || { [ -n "$dockerd" ] && ! kill -0 "$dockerd" 2>/dev/null; }
}

wait_for_docker() {
  local dockerd
  dockerd=$(remembered dockerd | head -n 1)
  if until_ready 90 docker_answers_or_is_dead && docker_answers; then return; fi
  grep -si 'failed to start\|level=error\|level=fatal' "$STATE/dockerd.log" | tail -n 3 >&2 || true
  refuse "the Docker Engine does not answer." \
    "inside a container, that container must be privileged to run an engine of its own" \
    "its log: $STATE/dockerd.log, or journalctl -u docker"
}

# Stops here where starting an engine is not ours to do.
may_start_docker() {
  if docker_forbidden; then
    refuse "a Docker Engine runs, and $(id -un) may not speak to it. Type, then log in again:" \
      "sudo usermod -aG docker $(id -un)"
  fi
  if [ -n "${DOCKER_HOST:-}" ]; then
    refuse "DOCKER_HOST is $DOCKER_HOST, and no engine answers there." "start that engine, or: unset DOCKER_HOST"
  fi
  if have dockerd && ! is_root; then
    refuse "the Docker Engine does not run, and starting it needs root. Type, or run this as root:" \
      "sudo systemctl start docker"
  fi
}
