# What was installed, started or changed for this clone, one a line in .demo/record: `make demo-down` undoes it
# from the last line to the first.
# shellcheck shell=bash

STATE=.demo
RECORD=$STATE/record

remember() { # kind, value
  mkdir -p "$STATE"
  grep -qsxF "$1 $2" "$RECORD" || printf '%s %s\n' "$1" "$2" >>"$RECORD"
}

remembered() { # kind -> values, newest first
  [ -f "$RECORD" ] || return 0
  tac "$RECORD" | sed -n "s/^$1 //p"
}
