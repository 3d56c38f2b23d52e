#!/bin/sh
# SHA-256 of every file below /in/data, in /out/SHA256SUMS and a table. A SHA256SUMS that is there must hold.
set -eu
cd "${1:-/in/data}"
out=${2:-/out}
find . -type f ! -name SHA256SUMS | sort | while IFS= read -r file; do
  sha256sum "$file"
done >"$out/SHA256SUMS"
{
  echo "files  $(wc -l <"$out/SHA256SUMS")"
  echo "bytes  $(find . -type f ! -name SHA256SUMS -exec stat -c %s {} + | awk '{ sum += $1 } END { print sum + 0 }')"
} | tee "$out/report.txt"
if [ -f SHA256SUMS ]; then
  code=0
  sha256sum -c SHA256SUMS >"$out/check.txt" 2>&1 || code=$?
  cat "$out/check.txt"
  exit $code
fi
