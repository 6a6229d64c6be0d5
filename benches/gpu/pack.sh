#!/usr/bin/env bash
# Builds all that benches/gpu/run.sh runs, on a machine with cargo and CUDA's compiler, and packs it for one with a
# GPU and nothing to build with.
#
#   benches/gpu/pack.sh gpu.tar.xz
#
# The toolkit must be no newer than what the driver there knows (`nvidia-smi` says it as "CUDA Version"): an older driver has
# not all the functions that the programs call, and translates no kernels of a newer compiler. Which one it was stands in TOOLKIT in the
# archive. $CUDA_COMPUTE_CAP (90) is the GPU that Candle's kernels are for; without it their build would ask the GPU of this machine.
set -euo pipefail
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
toolkit=$("${NVCC:-${CUDA_HOME:+$CUDA_HOME/bin/}nvcc}" --version)
archive=$(realpath "$1")
cd "$(dirname "$0")/../.."
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT
mkdir -p "$packed"/{programs,tests,benches/peers,benches/gpu}

# The programs that cargo says it has built, one path a line.
built() {
    cargo "$@" --release --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}
programs=$(built build --package ir-cli --package ir-benches --bin ir --bin gpu --features ir-cli/cuda,ir-benches/cuda)
programs+=" $(built build --package xtask)"
# In one call: another choice of packages has other features, and Candle's kernels are compiled once more.
tests=$(built build --package ir-emulation --package ir-tensor-ops --test gpu --test cuda --example cudnn \
    --features ir-emulation/cuda,ir-tensor-ops/cuda)
for program in $programs; do
    cp "$program" "$packed/programs/"
done
for test in $tests; do
    name=$(basename "$test")
    case $test in
    */examples/*) cp "$test" "$packed/programs/" ;;
    *) cp "$test" "$packed/tests/${name%-*}" ;;
    esac
done
strip "$packed"/programs/* "$packed"/tests/*

cp benches/peers/*.py "$packed/benches/peers/"
cp benches/gpu/run.sh "$packed/benches/gpu/"
git describe --always --dirty=-modified > "$packed/REVISION"
echo "$toolkit" > "$packed/TOOLKIT"
tar --create --file "$archive" --use-compress-program 'xz --threads=0' --directory "$packed" .
ls -l "$archive"
