#!/bin/sh
# Checks every file under /in/data and writes what it found to /out/report.txt and /out/files.csv. Where the
# folder has a SHA256SUMS, its files must match it.
set -eu
in=${1:-/in/data}
out=${2:-/out}

human() {
  awk -v b="$1" 'BEGIN { split("B KiB MiB GiB TiB", u); i = 1; while (b >= 1024 && i < 5) { b /= 1024; i++ }
    printf(i == 1 ? "%d %s" : "%.1f %s", b, u[i]) }'
}

# A row of files.csv: the name is quoted, since it may hold anything.
describe() {
  quoted=$(printf '%s' "$1" | sed 's/"/""/g')
  printf '"%s",%s,%s,%s,%s\n' "$quoted" "$(stat -c %s "$1")" "$(wc -l <"$1")" "$(wc -w <"$1")" \
    "$(sha256sum <"$1" | cut -c 1-64)"
}

# Least, mean and greatest of every column whose cells are all numbers.
columns() {
  head -n 1 "$1" | grep -q ';' && separator=';' || separator=,
  awk -F "$separator" '
    function number(s) { return s ~ /^[ \t]*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?[ \t]*$/ }
    { sub(/\r$/, "") }
    NR == 1 { for (i = 1; i <= NF; i++) name[i] = $i; width = NF; next }
    { rows++
      for (i = 1; i <= width; i++) {
        if ($i == "") continue
        if (!number($i)) { text[i] = 1; continue }
        v = $i + 0
        if (!n[i]++) { least[i] = v; most[i] = v }
        if (v < least[i]) least[i] = v
        if (v > most[i]) most[i] = v
        sum[i] += v
      } }
    END {
      printf "  %d rows, %d columns\n", rows, width
      for (i = 1; i <= width; i++) if (n[i] && !text[i]) {
        if (!shown++) printf "  %-24s %8s %12s %12s %12s\n", "column", "cells", "min", "mean", "max"
        printf "  %-24s %8d %12.6g %12.6g %12.6g\n", name[i], n[i], least[i], sum[i] / n[i], most[i]
      } }' "$1"
}

report() {
  printf 'Summary of %s files, %s' "$count" "$(human "$bytes")"
  printf '%s\n\n' "${LONGSHORE_JOB_ID:+, made by job $LONGSHORE_JOB_ID}"
  awk -F '",' 'BEGIN { printf "%12s %9s %9s  %-16s  %s\n", "bytes", "lines", "words", "sha-256", "file" }
    NR > 1 { split($NF, c, ","); name = substr($0, 2, length($0) - length($NF) - 3)
      printf "%12d %9d %9d  %.16s  %s\n", c[1], c[2], c[3], c[4], name }' "$out/files.csv"
  find . -type f -name '*.csv' | sort | while IFS= read -r file; do
    printf '\n%s\n' "${file#./}"
    columns "$file"
  done
  if [ -f SHA256SUMS ]; then printf '\nSHA256SUMS: every file matches\n'; fi
}

cd "$in"
echo 'file,bytes,lines,words,sha256' >"$out/files.csv"
count=$(find . -type f | wc -l)
done=0
find . -type f | sort | while IFS= read -r file; do
  describe "${file#./}" >>"$out/files.csv"
  done=$((done + 1))
  echo "checked $done of $count: ${file#./}"
done
[ ! -f SHA256SUMS ] || sha256sum -c SHA256SUMS >&2
bytes=$(sed 1d "$out/files.csv" | awk -F '",' '{ split($NF, c, ","); sum += c[1] } END { printf "%.0f", sum }')
report >"$out/report.txt"
echo "report written"
