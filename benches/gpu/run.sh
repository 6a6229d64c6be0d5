#!/usr/bin/env bash
# All that has to be seen on a GPU, on a machine that builds nothing and reaches no network. Unpack what benches/gpu/pack.sh
# has packed, go there, and call
#
#   benches/gpu/run.sh OUT SECONDS [PART...]
#
# It does what fits into SECONDS, and called again with the same OUT goes on with what is left; OUT/steps.csv says what was done,
# with which exit status and in how many seconds. Parts, in this order if none is named:
#
#   machine    what machine it is
#   tests      the tests of the kernels, of what is built on them, and of Candle's tensors on the GPU
#   sanitizer  the same under compute-sanitizer, memcheck and racecheck
#   bench      our convolutions beside cuDNN's, and every network beside PyTorch, with a profile of ours (OUT/record)
#   train      the networks in $NETWORKS, each to its last epoch (OUT/runs/NETWORK), checkpoint by checkpoint
#   analyze    the measures of those that are trained
#
# $PYTHON (python3) is the interpreter that has PyTorch; CUDA's libraries are taken from its packages where the system has none.
# $IR_DATA is the folder with CIFAR-10 for `train` and `analyze`, $PRECISION (bf16) what they train in.
set -uo pipefail
out=$(mkdir -p "$1" && realpath "$1")
deadline=$(($(date +%s) + $2))
shift 2
parts=("${@:-machine tests sanitizer bench train analyze}")
python=${PYTHON:-python3}
networks=${NETWORKS:-resnet-110 resnet-32 resnet-38 resnet-110-ubn}
# The tests, by the files that they stand in.
modules=(maps operations per_sample convolution tensors batches network training analysis)
measured=(resnet-110 resnet-32 resnet-38 resnet-56 single-representation avg-pooling wide)
mkdir -p "$out"/{logs,record,runs,results}
IR_REVISION=$(cat REVISION)
export IR_REVISION

# Where the wheels that PyTorch came with keep their libraries.
wheels=$("$python" -c 'import glob, nvidia; print(":".join(d for p in nvidia.__path__ for d in glob.glob(p + "/*/lib")))' 2> /dev/null)
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$wheels

left() { echo $((deadline - $(date +%s))); }

is_done() { grep -q "^$1,0," "$out/steps.csv" 2> /dev/null; }

# step NAME MOST COMMAND...: runs a command that was not yet done, for MOST seconds at most, and for as long as there are. What was
# cut short is done again next time; what failed, too.
step() {
    local name=$1 most=$2 seconds status start
    shift 2
    is_done "$name" && return
    seconds=$(($(left) - 10))
    ((seconds < 5)) && return
    ((most < seconds)) && seconds=$most
    start=$(date +%s)
    timeout --signal=INT --kill-after=8 "$seconds" "$@" > "$out/logs/$name.log" 2>&1
    status=$?
    echo "$name,$status,$(($(date +%s) - start))" | tee -a "$out/steps.csv"
    ((status == 0)) || tail -n 15 "$out/logs/$name.log"
}

machine() {
    nvidia-smi
    "$python" -c 'import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())'
    programs/ir --version
    nproc
}
export -f machine
export python

for part in ${parts[*]}; do
    case $part in
    machine)
        step machine 60 bash -c machine
        ;;
    tests)
        for module in "${modules[@]}"; do
            step "$module" 300 tests/gpu --test-threads=1 "$module::"
        done
        step candle 300 tests/cuda --test-threads=1
        ;;
    sanitizer)
        for tool in memcheck racecheck; do
            for module in "${modules[@]}"; do
                step "$tool-$module" 400 compute-sanitizer --tool "$tool" --error-exitcode 9 \
                    tests/gpu --test-threads=1 "$module::"
            done
            step "$tool-candle" 400 compute-sanitizer --tool "$tool" --error-exitcode 9 tests/cuda --test-threads=1
        done
        ;;
    bench)
        step cudnn 200 programs/cudnn
        for network in "${measured[@]}"; do
            step "bench-$network" 580 programs/xtask bench --device cuda --programs programs --records "$out/record" \
                --python "$python" --rounds 3 --networks "$network"
        done
        ;;
    train)
        for network in $networks; do
            step "train-$network" 100000 programs/ir train "$network" --data cifar10 --offline --device cuda \
                --precision "${PRECISION:-bf16}" --measure-every 25 --keep 1 --resume --out "$out/runs/$network"
        done
        ;;
    analyze)
        for network in $networks; do
            is_done "train-$network" && step "analyze-$network" 580 programs/ir analyze \
                "$out/runs/$network/checkpoint.safetensors" --data cifar10 --offline --device cuda \
                --out "$out/runs/$network/results.json"
        done
        ;;
    *)
        echo "no part is called $part" >&2
        exit 2
        ;;
    esac
done
echo "$(left) s left"
