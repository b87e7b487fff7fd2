#!/usr/bin/env bash
# Measures this project on one GPU in 10 minutes, the most valuable steps first:
#
#   bash launch/bench_gpu.sh OUT_FOLDER
#   bash launch/bench_gpu.sh OUT_FOLDER full lora-sft-8b tests   # these steps alone
#   bash launch/bench_gpu.sh OUT_FOLDER small                    # tiny models, on a CPU
#
# The folder gets a JSON file for each measurement, a log for each step, machine.txt and
# summary.txt. The exit code is 1 if a step failed or no time was left for it. Models
# have random weights; they take 25 GB in $TMPDIR and are removed at the end. PYTHON is
# the interpreter; it needs the extras `bench` and `test`, and a CUDA build of JAX.
set -uo pipefail

usage="usage: bash launch/bench_gpu.sh OUT_FOLDER [full|small] [STEP...]"
: "${1:?$usage}"
mkdir -p "$1" || exit 1
out=$(cd "$1" && pwd)
size=${2:-full}
chosen=" ${*:3} "
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python}
limit=585 # seconds; a step that ignores SIGTERM is killed 5 seconds later

fail() {
  echo "error: $*" >&2
  exit 1
}

[[ $size == full || $size == small ]] || fail "$size: must be full or small; $usage"
if [[ $size == full ]]; then
  command -v nvidia-smi >/dev/null || fail "no nvidia-smi; on a CPU, use: small"
  export JAX_PLATFORMS=cuda,cpu # a JAX without CUDA fails
else
  export JAX_DISABLE_MOST_OPTIMIZATIONS=1 # compilation would take most of the time
fi
"$python" -c "import importlib.util as i
exit(not all(map(i.find_spec, ('jax', 'peft', 'pytest', 'torch', 'trl'))))" ||
  fail "$python lacks jax, peft, pytest, torch or trl; set PYTHON"

# Our half of the card; the rest is TRL's.
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.5
export HF_HUB_OFFLINE=1 JAX_TRACEBACK_FILTERING=off PYTHONPATH=$PWD
queries=$out/queries.jsonl
models=$(mktemp -d) || exit 1
child=
failed=0

trap '[[ -z $child ]] || kill "$child"; wait; rm -rf "$models"' EXIT
trap 'exit 130' INT TERM

machine() {
  date -u +"%Y-%m-%d %H:%M UTC"
  echo "commit $(git rev-parse HEAD 2>/dev/null || echo unknown)"
  nvidia-smi 2>/dev/null || echo "no GPU"
  grep -m 1 "model name" /proc/cpuinfo
  echo "$(nproc) cores"
  grep MemTotal /proc/meminfo
  df -h "$models"
  "$python" - <<'PYTHON'
import importlib.metadata, platform, re
import torch
print("python", platform.python_version())
print("CUDA of torch", torch.version.cuda)
kept = re.compile("jax|torch|trl|transformers|peft|accelerate|nvidia|triton", re.I)
for package in sorted(importlib.metadata.distributions(), key=lambda p: p.name.lower()):
  if kept.match(package.name):
    print(package.name, package.version)
PYTHON
}

# Reports how a step ended: NAME SECONDS WORDS...
ended() {
  printf '%5s s  %s\n' "$2" "${*:3}"
  printf '%-16s %5s s  %s\n' "$1" "$2" "${*:3}" >>"$out/summary.txt"
  [[ $3 != FAILED:* ]] || failed=1
}

wanted() { [[ $chosen == "  " || $chosen == *" $1 "* ]]; }

# Runs a command: NAME MOST_SECONDS OUTPUT COMMAND... Sets `seconds`, or reports why the
# command failed.
run() {
  local name=$1 most=$2 output=$3 log=$out/$1.log began=$SECONDS code=0
  local left=$((limit - began))
  [[ $size == full ]] || most=$limit # a CPU may be slow
  shift 3
  printf '%-16s ' "$name"
  if ((left < 5)); then
    ended "$name" 0 "FAILED: no time was left"
    return 1
  fi
  rm -f "$output" "$log"
  # In the background, because the shell handles a signal only once `wait` returns.
  timeout -k 5 "$((left < most ? left : most))" "$@" >>"$output" 2>>"$log" &
  child=$!
  wait "$child" || code=$?
  child=
  seconds=$((SECONDS - began))
  case $code in
    0) return ;;
    124 | 137) ended "$name" "$seconds" "FAILED: took too long; see $name.log" ;;
    *) ended "$name" "$seconds" "FAILED: $(tail -n 1 "$log"); see $name.log" ;;
  esac
  return 1
}

# Runs some tests: NAME MOST_SECONDS ARGUMENTS...
tests() {
  local name=$1 most=$2
  wanted "$name" || return
  shift 2
  [[ $size == full ]] || set -- tests/decoder/test_config.py
  if run "$name" "$most" "$out/$name.log" "$python" -m pytest -p no:cacheprovider "$@"
  then
    ended "$name" "$seconds" "$(tail -n 1 "$out/$name.log")"
  fi
}

# Prints the rates of a measurement; fails if no setting of TRL worked.
rates='
import json, sys
result = json.load(open(sys.argv[1]))
found = []
for key, value in result.items():
  if key in ("examples_per_second", "new_tokens_per_second") or key[:6] == "times_":
    found.append(f"{key} {value and round(value, 2)}")
for name, row in result.get("trl", {}).items():
  if "error" in row:
    found.append("TRL " + name + ": " + row["error"])
print(", ".join(found))
sys.exit(result.get("times_trl", 0) is None)
'

# Runs launch/bench.py: NAME MOST_SECONDS MODEL ARGUMENTS...
measure() {
  local name=$1 most=$2 model=$3 json=$out/$1.json words
  wanted "$name" || return
  shift 3
  if [[ $size == small ]]; then
    model=tiny
    set -- "$@" --batch=2 --micro_tokens=2048 --shapes=1 --steps=1 \
      --precision=float32 --trl_precisions=float32 --trl_micro_batches=2 \
      --num_candidates=2 --max_new_tokens=8
  fi
  if ! [[ -e $models/$model/config.json ]]; then # which is written last
    if run "model-$model" 120 "$out/model-$model.log" \
      "$python" -m vpo_jax.bench.shapes "$model" "$models/$model"; then
      ended "model-$model" "$seconds" "$(du -sh "$models/$model" | cut -f 1)"
    fi
  fi
  run "$name" "$most" "$json" "$python" launch/bench.py --model="$models/$model" \
    --queries="$queries" --precision=bfloat16 --trl_precisions=bfloat16 "$@" ||
    rm -f "$json"
  [[ -e $json ]] || return
  words=$("$python" -c "$rates" "$json") || words="FAILED: $words"
  ended "$name" "$seconds" "$words"
}

machine >"$out/machine.txt"
rm -f "$out/summary.txt"
# Six batches of 64 need more queries than the embedded set has.
for _ in 1 2 3; do cat vpo_jax/curate/queries.jsonl; done >"$queries"
echo "up to 10 minutes; results and logs: $out"
[[ $size == full ]] || echo "every model is a tiny one: the figures say nothing"

tests tests-attention 80 tests/decoder/test_attention.py tests/data/test_forest.py
measure sft-1b 100 llama3.2-1b --stage=sft --batch=64 --micro_tokens=32768 --shapes=2 \
  --steps=3 --against=trl --trl_micro_batches=32
measure dpo-1b 120 llama3.2-1b --stage=dpo --batch=64 --micro_tokens=32768 --shapes=2 \
  --steps=3 --against=trl --trl_micro_batches=8,16
measure sample-1b 80 llama3.2-1b --stage=sample --batch=8 --num_candidates=4 \
  --max_new_tokens=128 --ignore_eos --steps=3 --against=transformers-bfloat16
measure lora-sft-8b 180 llama3-8b --stage=sft --lora_rank=16 --batch=32 \
  --micro_tokens=4096 --shapes=1 --steps=3 --against=trl --trl_micro_batches=4
measure lora-dpo-8b 180 llama3-8b --stage=dpo --lora_rank=16 --batch=32 \
  --micro_tokens=4096 --shapes=1 --steps=3 --against=trl --trl_micro_batches=2
measure sample-8b 110 llama3-8b --stage=sample --batch=8 --num_candidates=4 \
  --max_new_tokens=128 --ignore_eos --steps=3
# TRL holds its reference model too, so our share of the card is smaller.
XLA_PYTHON_CLIENT_MEM_FRACTION=0.45 measure dpo-3b 120 llama3.2-3b --stage=dpo \
  --batch=32 --micro_tokens=4096 --shapes=1 --steps=3 --against=trl \
  --trl_micro_batches=2
measure sft-3b 100 llama3.2-3b --stage=sft --batch=32 --micro_tokens=8192 --shapes=1 \
  --steps=3 --against=trl --trl_micro_batches=4
# Without the tests that need eight devices or are about a TPU's kernel.
tests tests 120 tests/decoder tests/data --ignore=tests/decoder/test_attention.py \
  --ignore=tests/data/test_forest.py --ignore=tests/decoder/test_memory.py \
  --ignore=tests/decoder/test_sharding.py --ignore=tests/decoder/test_tpu_attention.py \
  -k "not eight_devices and not every_mesh and not kernel"

[[ -e $out/summary.txt ]] || fail "no step is called${chosen% }"
echo "$SECONDS s in all"
exit "$failed"
