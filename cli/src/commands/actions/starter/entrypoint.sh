#!/bin/sh
# What the action does. An exit code other than 0 is a failed job; what is printed is its log.
set -eu

line="Hello, $NAME"
if [ "${STYLE:-plain}" = loud ]; then
    line=$(printf '%s' "$line" | tr '[:lower:]' '[:upper:]')
fi

n=0
while [ "$n" -lt "${TIMES:-1}" ]; do
    n=$((n + 1))
    echo "$line ($n)"
done

files=0
if [ -d /in/files ]; then
    files=$(find /in/files -type f | wc -l)
fi

# Everything in /out is kept.
{
    echo "job: ${LONGSHORE_JOB_ID:-none}"
    echo "greeted: $NAME"
    echo "files: $files"
} >/out/report.txt
echo "wrote /out/report.txt: $files files"
