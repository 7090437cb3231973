#!/usr/bin/env bash
# Start N training processes on this machine: tools/launch_local.sh N -c CONFIG [-o ...]
# With GPUs, each process uses one GPU; otherwise the processes share the CPU cores (gloo).
set -euo pipefail
if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 NUMBER_OF_PROCESSES -c CONFIG [-o KEY=VALUE ...]" >&2
  exit 2
fi
count=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
logs=${PLSC_LAUNCH_LOGS:-$(mktemp -d -t plsc-launch-XXXXXX)}
export PADDLE_LOCAL_SIZE=$count  # divides the cores among the processes
echo "one log per process: $logs/workerlog.*" >&2
processes=(--nproc_per_node="$count")
if command -v nvidia-smi > /dev/null && nvidia-smi -L > /dev/null 2>&1; then
  processes=(--devices="$(seq -s, 0 $((count - 1)))")
fi

# The launcher handles only Ctrl-C and SIGTERM, and exits with a different code. It runs in a separate process group, so
# that a signal of the terminal reaches it once: as the SIGTERM sent by `stop`.
set -m
"$python" -m paddle.distributed.launch "${processes[@]}" --log_level=WARNING --log_dir="$logs" \
  "$root/tools/train.py" "$@" < /dev/null &
launcher=$!
signal=0
stop() {
  signal=$1
  kill -TERM "$launcher" 2> /dev/null || true
}
for name in HUP INT TERM USR1; do
  # shellcheck disable=SC2064 - the number does not change later
  trap "stop $(kill -l $name)" "$name"
done
code=0
wait "$launcher" || code=$?
while kill -0 "$launcher" 2> /dev/null; do # a signal interrupted the wait
  code=0
  wait "$launcher" || code=$?
done
if ((signal)); then exit $((128 + signal)); fi
exit "$code"
