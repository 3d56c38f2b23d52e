#!/bin/sh
# One JSON object for each file below /in/data: name, size, time, and what its first bytes say it is.
set -eu
cd "${1:-/in/data}"
out=${2:-/out}

kind() {
  case $(od -An -tx1 -N 8 "$1" | tr -d ' \n') in
  89504e47*) echo image/png ;;
  ffd8ff*) echo image/jpeg ;;
  25504446*) echo application/pdf ;;
  1f8b*) echo application/gzip ;;
  504b0304*) echo application/zip ;;
  894d43415030*) echo application/x-mcap ;;
  23524f53424147*) echo application/x-rosbag ;;
  7f454c46*) echo application/x-elf ;;
  '') echo inode/x-empty ;;
  *) if LC_ALL=C grep -q '[^[:print:][:space:]]' "$1"; then echo application/octet-stream; else echo text/plain; fi ;;
  esac
}

quoted() {
  printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'
}

find . -type f | sort | while IFS= read -r file; do
  printf '{"name": "%s", "bytes": %s, "modified": %s, "kind": "%s"}\n' \
    "$(quoted "${file#./}")" "$(stat -c %s "$file")" "$(stat -c %Y "$file")" "$(kind "$file")"
done >"$out/metadata.jsonl"
echo "$(wc -l <"$out/metadata.jsonl") files described"
