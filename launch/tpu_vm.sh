#!/usr/bin/env bash
# SICNN on a Cloud TPU VM, of one host or many: create, copy, run, log, delete.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: launch/tpu_vm.sh [OPTIONS] COMMAND NAME [-- ARGUMENTS]

  create   the TPU VM
  copy     this repository to every host, and install it there
  run      python -m sicnn_jax.main ARGUMENTS on every host, in the background;
           a run stopped by a preemption notice (status 75) starts again there
  log      follow the log of the first host
  delete   the TPU VM and everything on it

  --zone=ZONE        default: $TPU_ZONE
  --type=TYPE        accelerator type; default: v5litepod-8
  --version=VERSION  of the runtime; default: v2-alpha-tpuv5-lite
  --spot             create a VM that may be taken away
  --dry-run          print the commands instead of running them

  launch/tpu_vm.sh --zone=us-west4-a create faces
  launch/tpu_vm.sh --zone=us-west4-a copy faces
  launch/tpu_vm.sh --zone=us-west4-a run faces -- --config=configs/di.py --workdir=/mnt/runs/di
  launch/tpu_vm.sh --zone=us-west4-a log faces
  launch/tpu_vm.sh --zone=us-west4-a delete faces

Every host must see the workdir, and it must outlive the VM: use a mounted bucket or a
shared disk. gcloud must be installed and logged in, with a project chosen.
USAGE
}

fail() {
  echo "Error: $1" >&2
  exit 2
}

zone=${TPU_ZONE:-} type=v5litepod-8 version=v2-alpha-tpuv5-lite
spot=() dry=
while [[ ${1:-} == -* ]]; do
  case $1 in
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --spot) spot=(--spot) ;;
    --dry-run) dry=yes ;;
    --help | -h) usage && exit 0 ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  shift
done
[[ $# -ge 2 ]] || fail "expected COMMAND and NAME; see --help"
command=$1 name=$2
shift 2
[[ ${1:-} == -- ]] && shift
[[ -n $zone ]] || fail "--zone is missing, such as --zone=us-west4-a"

run() {
  if [[ -n $dry ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

tpu() {
  run gcloud compute tpus tpu-vm "$@" --zone="$zone"
}

# On every host, in the directory of the repository.
everywhere() {
  tpu ssh "$name" --worker=all --command="cd sicnn_jax && $1"
}

case $command in
  create)
    tpu create "$name" --accelerator-type="$type" --version="$version" "${spot[@]}"
    ;;
  copy)
    cd "$(dirname "$0")/.."
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    run git archive --format=tar.gz --output="$archive" HEAD
    tpu scp "$archive" "$name":sicnn_jax.tar.gz --worker=all
    tpu ssh "$name" --worker=all \
      --command='mkdir -p sicnn_jax && tar xzf sicnn_jax.tar.gz -C sicnn_jax'
    everywhere "python3 -m venv .venv && .venv/bin/pip install --quiet -e '.[tpu,records]'"
    ;;
  run)
    [[ $# -gt 0 ]] || fail "expected -- and arguments, such as -- --config=configs/di.py"
    train=$(printf '%q ' .venv/bin/python -m sicnn_jax.main "$@")
    # 75: saved after a preemption notice; continue from there.
    loop="while $train; [ \$? -eq 75 ]; do sleep 5; done"
    everywhere "nohup bash -c $(printf '%q' "$loop") >> run.log 2>&1 < /dev/null &"
    ;;
  log)
    tpu ssh "$name" --worker=0 --command='tail -n 100 -F sicnn_jax/run.log'
    ;;
  delete)
    tpu delete "$name" --quiet
    ;;
  *)
    fail "unknown command $command; expected create, copy, run, log or delete"
    ;;
esac
