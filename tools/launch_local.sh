#!/usr/bin/env bash
# Several processes on this machine: tools/launch_local.sh N -c CONFIG [-o ...]
# One process per GPU if there are GPUs, else N processes that share the CPU cores (gloo).
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
export PADDLE_LOCAL_SIZE=$count  # shares the cores among the processes
echo "one log per process: $logs/workerlog.*" >&2
if command -v nvidia-smi > /dev/null && nvidia-smi -L > /dev/null 2>&1; then
  devices=$(seq -s, 0 $((count - 1)))
  exec "$python" -m paddle.distributed.launch --devices="$devices" --log_level=WARNING --log_dir="$logs" "$root/tools/train.py" "$@"
fi
exec "$python" -m paddle.distributed.launch --nproc_per_node="$count" --log_level=WARNING --log_dir="$logs" "$root/tools/train.py" "$@"
