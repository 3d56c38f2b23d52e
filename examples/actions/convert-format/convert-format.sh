#!/bin/sh
# Every CSV below /in/data as JSON lines or tab-separated values in /out, under the same name. Cells have no quotes.
set -eu
cd "${1:-/in/data}"
out=${2:-/out}
format=${FORMAT:-jsonl}
find . -type f -name '*.csv' | sort | while IFS= read -r file; do
  target=$out/${file%.csv}.$format
  mkdir -p "$(dirname "$target")"
  awk -F , -v format="$format" '
    function text(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); return "\"" s "\"" }
    function cell(s) { return s ~ /^-?(0|[1-9][0-9]*)(\.[0-9]+)?$/ ? s : text(s) }
    { sub(/\r$/, "") }
    format == "tsv" { gsub(/,/, "\t"); print; next }
    NR == 1 { for (i = 1; i <= NF; i++) name[i] = $i; next }
    NF { row = ""; for (i = 1; i <= NF; i++) row = row (i > 1 ? ", " : "") text(name[i]) ": " cell($i); print "{" row "}" }
  ' "$file" >"$target"
  echo "$file: $(wc -l <"$target") lines of $format"
done
