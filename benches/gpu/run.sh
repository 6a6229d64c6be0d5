#!/usr/bin/env bash
# All that has to be seen on a GPU, on a machine that builds nothing and reaches no network. Unpack what benches/gpu/pack.sh
# has packed, go there, and call
#
#   benches/gpu/run.sh OUT SECONDS [PART...]
#
# It does what fits into SECONDS, and called again with the same OUT goes on with what is left; OUT/steps.csv says what was done,
# with which exit status, in how many seconds and by which revision. What another revision has done is done again. Parts, in
# this order if none is named, what counts most first:
#
#   machine    what machine it is
#   tests      the tests of the kernels, of what is built on them, and of Candle's tensors on the GPU
#   compare    one training pass of a small and a deep network there and on the CPU, in both precisions
#   bench      our convolutions beside cuDNN's, and the networks in $MEASURED beside PyTorch, with a profile of ours (OUT/record)
#   sanitizer  the tests under compute-sanitizer, memcheck and racecheck
#   train      the networks in $NETWORKS, each to its last epoch (OUT/runs/NETWORK), checkpoint by checkpoint
#   analyze    the measures of those that are trained
#
# $PYTHON (python3) is the interpreter that has PyTorch; CUDA's libraries are taken from its packages where the system has none.
# $IR_DATA is the folder with CIFAR-10 for `train` and `analyze`, $PRECISION (bf16) what they train in.
#
# Where each call has a fresh machine, OUT travels as a tar in pieces of at most 15 MiB, out.tar.000 and on. $BACK is the folder that
# they are left in at the end, also when the script is interrupted; $FROM is the folder that has those of an earlier call (or one file that
# is a tar of OUT), and is taken where OUT has no steps.csv:
#
#   BACK=back benches/gpu/run.sh OUT 580
#   FROM=back BACK=back benches/gpu/run.sh OUT 580
set -uo pipefail
out=$(mkdir -p "$1" && realpath "$1")
deadline=$(($(date +%s) + $2))
shift 2
parts=("${@:-machine tests compare bench sanitizer train analyze}")
python=${PYTHON:-python3}
measured=${MEASURED:-resnet-110 resnet-32 resnet-38 resnet-56 single-representation avg-pooling wide}
networks=${NETWORKS:-resnet-32 resnet-38 resnet-110 resnet-110-ubn}
# The tests, by the files that they stand in.
modules=(maps operations per_sample convolution tensors batches network training compare analysis)
if [[ -n ${FROM:-} && ! -e $out/steps.csv ]]; then
    pieces=("$FROM")
    [[ -d $FROM ]] && pieces=("$FROM"/out.tar.*)
    if ! cat "${pieces[@]}" | tar --extract --directory "$out"; then
        echo "$FROM is no tar of an earlier OUT, nor a folder with its pieces" >&2
        exit 2
    fi
fi
if [[ -n ${BACK:-} ]]; then
    back=$(mkdir -p "$BACK" && realpath "$BACK")
    leave() {
        rm -f "$back"/out.tar.*
        tar --create --directory "$out" . | split --bytes=15M --numeric-suffixes --suffix-length=3 - "$back/out.tar."
    }
    trap leave EXIT
fi
# What is interrupted ends its step first.
child=
interrupted() {
    [[ -n $child ]] && kill -INT "$child" 2> /dev/null && wait "$child"
    exit "$1"
}
trap 'interrupted 129' HUP
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
mkdir -p "$out"/{logs,record,runs}
IR_REVISION=$(cat REVISION)
export IR_REVISION

# Where the wheels that PyTorch came with keep their libraries.
wheels=$("$python" -c 'import glob, nvidia; print(":".join(d for p in nvidia.__path__ for d in glob.glob(p + "/*/lib")))' 2> /dev/null)
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$wheels

left() { echo $((deadline - $(date +%s))); }

is_done() { grep -q "^$1,0,[0-9]*,$IR_REVISION\$" "$out/steps.csv" 2> /dev/null; }

# step NAME LEAST MOST COMMAND...: runs a command that this revision has not yet done, for MOST seconds at most, and for as long as
# there are; not at all for less than LEAST. What was cut short is done again next time; what failed, too.
step() {
    local name=$1 least=$2 most=$3 seconds status start
    shift 3
    is_done "$name" && return
    seconds=$(($(left) - 10))
    ((seconds < least)) && return
    ((most < seconds)) && seconds=$most
    start=$(date +%s)
    # Not in the foreground, where bash would hear of a signal only after it.
    timeout --signal=INT --kill-after=8 "$seconds" "$@" > "$out/logs/$name.log" 2>&1 &
    child=$!
    wait "$child"
    status=$?
    child=
    echo "$name,$status,$(($(date +%s) - start)),$IR_REVISION" | tee -a "$out/steps.csv"
    ((status == 0)) || tail -n 15 "$out/logs/$name.log"
}

# All of it, and a failure if any of it failed.
machine() {
    local failed=0
    nproc
    cat REVISION TOOLKIT || failed=1
    nvidia-smi || failed=1
    programs/ir --version || failed=1
    "$python" -c 'import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())' || failed=1
    return $failed
}
export -f machine
export python

sanitizer=$(type -P compute-sanitizer || ls -d /usr/local/cuda*/bin/compute-sanitizer 2> /dev/null | tail -n 1)

for part in ${parts[*]}; do
    case $part in
    machine)
        step machine 5 60 bash -c machine
        ;;
    tests)
        for module in "${modules[@]}"; do
            step "$module" 30 300 tests/gpu --test-threads=1 "$module::"
        done
        step candle 30 300 tests/cuda --test-threads=1
        ;;
    compare)
        for network in resnet-32 resnet-110; do
            for precision in f32 bf16; do
                step "compare-$network-$precision" 30 200 programs/gpu compare "$network" 128 "$precision"
            done
        done
        ;;
    sanitizer)
        if [[ -z $sanitizer ]]; then
            echo "sanitizer: left out, there is no compute-sanitizer on the path and none in /usr/local/cuda*/bin"
            continue
        fi
        for tool in memcheck racecheck; do
            for module in "${modules[@]}"; do
                step "$tool-$module" 60 400 "$sanitizer" --tool "$tool" --error-exitcode 9 \
                    tests/gpu --test-threads=1 "$module::"
            done
            # cuDNN asks the driver for what it may refuse, and goes on: errors to memcheck, and not of ours.
            step "$tool-candle" 60 400 "$sanitizer" --tool "$tool" --error-exitcode 9 \
                tests/cuda --test-threads=1 --skip cudnn
        done
        ;;
    bench)
        step cudnn 30 100 programs/cudnn
        for network in $measured; do
            step "bench-$network" 240 580 programs/xtask bench --device cuda --programs "$PWD/programs" \
                --records "$out/record" --python "$python" --rounds 3 --networks "$network"
        done
        ;;
    train)
        for network in $networks; do
            step "train-$network" 5 100000 programs/ir train "$network" --data cifar10 --offline --device cuda \
                --precision "${PRECISION:-bf16}" --measure-every 25 --keep 1 --resume --out "$out/runs/$network"
        done
        ;;
    analyze)
        for network in $networks; do
            is_done "train-$network" && step "analyze-$network" 120 580 programs/ir analyze \
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
