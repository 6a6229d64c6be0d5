#!/usr/bin/env bash
# Runs what talks to CUDA's driver on a machine without a GPU: the tests of the feature `cuda`, against a driver that is emulated
# too. It holds the host to the driver's rules (what may happen while a stream is captured, which thread has a context, how much
# shared memory and how many registers a launch may take, which memory is the device's), works only when somebody
# waits, and gives the kernels of this project and Candle's own to the emulation.
#
#   emulation/driver/check.sh
#
# Needs what a build with the feature needs: CUDA's compiler, and libraries to link. They are loaded when they are first called, so that
# it is enough to have here what is called.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=emulation/driver
kernels=crates/ir-tensor-ops/kernels
made=${CARGO_TARGET_DIR:-target}/driver
mkdir -p "$made"
compile=(g++ -std=c++17 -O2 -fPIC -fno-strict-aliasing -U_FORTIFY_SOURCE)

# Candle's kernels, and a registration of each.
manifest=$(cargo metadata --format-version 1 --features ir-tensor-ops/cuda |
    grep -o '"[^"]*/candle-kernels-[^"/]*/Cargo.toml"' | head -1 | tr -d '"')
sources="$made/candle"
rm -rf "$sources"
mkdir -p "$sources/cuda/std"
cp "$(dirname "$manifest")"/src/*.cu* "$sources"
# In place of CUDA's headers, and of Candle's for old compilers.
for header in compatibility.cuh cuda.h cuda_fp16.h cuda_bf16.h cuda_fp8.h cuda/std/limits; do
    : > "$sources/$header"
done
for file in affine binary cast conv fill indexing reduce ternary unary; do
    source="$sources/$file.cpp"
    printf '#include "%s/%s/candle.h"\n#include "%s.cu"\n' "$PWD" "$here" "$file" > "$source"
    "${compile[@]}" -w -I "$sources" -c "$source" -o "$sources/$file.o"
    nm --defined-only "$sources/$file.o" | awk '$2 == "T" && $3 !~ /^_Z/ { print "REGISTER(" $3 ")" }' >> "$source"
    "${compile[@]}" -w -I "$sources" -c "$source" -o "$sources/$file.o"
done

# One library under the names of all.
"${compile[@]}" -w -c "$here/driver.cpp" -o "$made/driver.o"
"${compile[@]}" -Wall -Wextra -c "$here/libraries.cpp" -o "$made/libraries.o"
# Each of Candle's files brings the same functions.
g++ -shared -Wl,-Bsymbolic -Wl,-z,muldefs -o "$made/libcuda.so.1" "$made"/*.o "$sources"/*.o
for library in libcublas.so.{12,13} libcublasLt.so.{12,13} libcurand.so.10 libnvrtc.so.{12,13} libcudnn.so.9; do
    ln -sf libcuda.so.1 "$made/$library"
done

# Name, registers and bytes of shared memory of each kernel.
"${NVCC:-nvcc}" -cubin -arch=sm_90 -std=c++17 -O3 -Xptxas -v -o "$made/kernels.cubin" "$kernels/kernels.cu" 2>&1 |
    awk '/Compiling entry/ { gsub("\047", "", $7); name = $7 }
         / registers/ {
             bytes = 0
             for (i = 1; i < NF; i++) {
                 if ($(i + 1) ~ /^registers/) registers = $i
                 if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) bytes = $i
             }
             print name, registers, bytes
         }' > "$made/resources"

# In one call, as benches/gpu/pack.sh builds them: Candle's kernels are then compiled once.
programs=$(cargo build --release --package ir-emulation --package ir-tensor-ops --test gpu --test cuda \
    --features ir-emulation/cuda,ir-tensor-ops/cuda --message-format=json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
for program in $programs; do
    # It starts where there is no driver.
    "$program" --list > /dev/null
    LD_LIBRARY_PATH="$made" DRIVER_RESOURCES="$made/resources" "$program" --test-threads 1
done
