#!/bin/sh
# A stub of the client: takes what the guides call, and the key that it was given.
case "$1" in
login) [ "$2" = --key ] && [ "$3" = "$KLEINKRAM_API_KEY" ] && echo "logged in with $3 ($3)" ;;
download) [ "$2" = -m ] && [ "$3" = "$KLEINKRAM_MISSION_UUID" ] && echo bag >"$5/run.bag" ;;
*) exit 2 ;;
esac
