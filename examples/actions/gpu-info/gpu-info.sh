#!/bin/sh
# What the container sees of the GPUs that it was given: its device files and the driver's own words, which need no
# library, and nvidia-smi where that is there and runs. Fails if it was given one and sees none.
# gpu-info.sh [OUT [ROOT]]
set -eu
out=${1:-/out}
root=${2:-}
granted=${LONGSHORE_GPUS:-0}
seen=0
{
  echo "granted  $granted"
  echo "visible  ${NVIDIA_VISIBLE_DEVICES:-none}"
  for device in "$root"/dev/nvidia[0-9]*; do
    [ -e "$device" ] || continue
    seen=$((seen + 1))
    echo "device   $device"
  done
  version=$root/proc/driver/nvidia/version
  [ ! -r "$version" ] || sed -n 's/^NVRM version: */driver   /p' "$version"
  for information in "$root"/proc/driver/nvidia/gpus/*/information; do
    [ ! -r "$information" ] || sed -n 's/^Model: *[[:space:]]*/model    /p; s/^GPU UUID: *[[:space:]]*/uuid     /p' "$information"
  done
} > "$out/gpus.txt"
cat "$out/gpus.txt"
# It is a program of the driver's and needs a C library, which this image lacks and others have.
smi=$(PATH="$PATH:/usr/bin:/usr/local/bin" command -v nvidia-smi || true)
query=index,uuid,name,memory.total,driver_version
if [ -n "$smi" ] && csv=$("$smi" --query-gpu="$query" --format=csv 2>/dev/null); then
  echo "$csv" | tee "$out/gpus.csv"
fi
if [ "$granted" -gt "$seen" ]; then
  echo "$granted GPUs were granted, and /dev has $seen" >&2
  exit 1
fi
