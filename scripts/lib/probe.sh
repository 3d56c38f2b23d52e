# Questions about abilities of this machine. Changes nothing.
# shellcheck shell=bash

export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

have() {
  command -v "$1" >/dev/null 2>&1
}

is_root() {
  [ "$(id -u)" = 0 ]
}

has_systemd() {
  [ -d /run/systemd/system ]
}

docker_answers() {
  have docker && docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# The engine runs, and this user may not speak to it.
docker_forbidden() {
  have docker && docker version 2>&1 | grep -qi 'permission denied'
}

# A busybox that needs no libraries, so that it works in an image FROM scratch.
static_busybox() {
  local file
  for file in "${BUSYBOX:-}" /usr/bin/busybox /bin/busybox "$(command -v busybox || true)"; do
    [ -x "$file" ] && ! ldd "$file" 2>/dev/null | grep -q '=>\|ld-' && echo "$file" && return
  done
  return 1
}

python_ready() {
  have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null
}

wanted_rust() {
  sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

rust_ready() {
  have cargo && have rustc || return 1
  local found
  found=$(rustc --version | awk '{print $2}')
  [ "$(printf '%s\n%s\n' "$(wanted_rust)" "${found%%-*}" | sort -V | head -n 1)" = "$(wanted_rust)" ]
}

nat_works() { # iptables program
  have "$1" && "$1" -w 5 -t nat -nL >/dev/null 2>&1
}
