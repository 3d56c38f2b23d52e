# Messages of the scripts: one line per step with the time it took, refusals, and the one question.
# shellcheck shell=bash

BEGAN=${BEGAN:-$(date +%s)}

clock() { # seconds -> m:ss
  printf '%d:%02d' $(($1 / 60)) $(($1 % 60))
}

elapsed() {
  clock $(($(date +%s) - BEGAN))
}

say() {
  printf '%s\n' "$*" >&2
}

# timed WHAT COMMAND...: says what happens, does it, says how long it took.
timed() {
  local what=$1 began
  shift
  began=$(date +%s)
  say "==> $what"
  "$@" || {
    local code=$?
    say "    failed after $(clock $(($(date +%s) - began))): $what"
    return "$code"
  }
  say "    took $(clock $(($(date +%s) - began))), $(elapsed) since the start"
}

refuse() {
  say "error: $1"
  shift
  local line
  for line in "$@"; do say "  $line"; done
  exit 1
}

# On a terminal asks; elsewhere goes on.
agree() {
  [ -t 0 ] && [ -t 2 ] || return 0
  local answer
  printf '%s [Y/n] ' "$1" >&2
  read -r answer
  case $answer in '' | [Yy]*) ;; *) return 1 ;; esac
}

# until_ready SECONDS COMMAND...: asks again until the command succeeds or the time is over.
until_ready() {
  local deadline=$(($(date +%s) + $1))
  shift
  until "$@"; do
    [ "$(date +%s)" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}
