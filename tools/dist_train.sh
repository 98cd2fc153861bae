#!/usr/bin/env bash
# bash tools/dist_train.sh CONFIG GPUS [options of train.py]
# Several machines: the same command on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -eu
if [ $# -lt 2 ]; then
    echo "$(sed -n '2,3s/^# //p' "$0")" >&2
    exit 2
fi
config=$1 gpus=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$here/..:${PYTHONPATH:-}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --nproc-per-node="$gpus" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    "$here/train.py" "$config" --launcher pytorch "$@"
