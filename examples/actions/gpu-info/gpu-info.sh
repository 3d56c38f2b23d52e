#!/bin/sh
# What the container sees of the GPUs that it was given. Fails if it was given one and sees none.
set -eu
out=${1:-/out}
{
  echo "granted  ${LONGSHORE_GPUS:-0}"
  echo "visible  ${NVIDIA_VISIBLE_DEVICES:-none}"
  for device in /dev/nvidia[0-9]*; do
    [ -e "$device" ] && echo "device   $device"
  done
  [ ! -r /proc/driver/nvidia/version ] || sed -n 's/^NVRM version: */driver   /p' /proc/driver/nvidia/version
} | tee "$out/gpus.txt"
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=index,uuid,name,memory.total,driver_version --format=csv | tee "$out/gpus.csv"
elif [ "${LONGSHORE_GPUS:-0}" -gt 0 ]; then
  echo "nvidia-smi is not here: no GPU found" >&2
  exit 1
fi
