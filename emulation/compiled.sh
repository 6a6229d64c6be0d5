#!/usr/bin/env bash
# Runs the tests of what runs on a GPU with the kernels as CUDA's compiler makes them, instruction by instruction and without a GPU:
# for Hopper, and as every GPU from Ampere on may get them.
#
#   emulation/compiled.sh
#
# Needs CUDA's compiler, and no library of CUDA's.
set -euo pipefail
cd "$(dirname "$0")/.."
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
for architecture in sm_90 sm_80; do
    "${NVCC:-nvcc}" -ptx -arch="$architecture" -std=c++17 -O3 -o "$made/$architecture.ptx" \
        crates/ir-tensor-ops/kernels/kernels.cu
    IR_PTX="$made/$architecture.ptx" cargo test --release --package ir-emulation --test gpu
done
