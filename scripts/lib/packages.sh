# Packages of the distribution, through apt. Without apt or root: says what to install, and stops.
# shellcheck shell=bash

apt_quiet() {
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null
}

apt_knows() {
  apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'
}

# Some systems keep the client in a package of its own.
docker_packages() {
  echo docker.io
  if ! have docker && have apt-cache && apt_knows docker-cli; then echo docker-cli; fi
}

# The services of these packages belong to the machine; tests start instances of their own.
keep_services_down() {
  if has_systemd; then systemctl mask --runtime --quiet rabbitmq-server docker-registry || true; fi
}

free_services() {
  if has_systemd; then systemctl unmask --runtime --quiet rabbitmq-server docker-registry || true; fi
}

install_packages() {
  local package before
  before=$(dpkg-query -W -f '${Package}\n' | sort)
  apt_knows "${1:?}" || apt_quiet update
  keep_services_down
  apt_quiet install --no-install-recommends "$@" >"$STATE/apt.log" 2>&1 || {
    apt_quiet update
    apt_quiet install --no-install-recommends "$@" >"$STATE/apt.log" 2>&1
  } || {
    tail -n 20 "$STATE/apt.log" >&2
    refuse "apt-get could not install: $*" "its output is in $STATE/apt.log"
  }
  free_services
  for package in $(dpkg-query -W -f '${Package}\n' | sort | comm -13 <(echo "$before") -); do
    remember package "$package"
  done
}

# Stops unless packages can be installed here.
can_install() {
  if ! have apt-get; then
    refuse "this machine lacks what the packages below bring on Debian and Ubuntu, and has no apt-get." \
      "install what they hold, then run this again: $*"
  fi
  if ! is_root; then
    refuse "something must be installed, and that needs root. Type, or run this as root:" \
      "sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
  fi
}
