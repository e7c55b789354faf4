#!/usr/bin/env bash
# Everything that a GPU can tell, in under ten minutes: bench/gpu/everything.sh REPORT [STEP...]
#
# Builds for the GPU that is there, in a copy of the tree, then takes the steps, all of them if none is named:
# sanitizers (compute-sanitizer's four tools over every op, of the CUDA library and of Triton), tests, facts (what the
# driver says), ceilings (what the link gives), benches (the ops). Nothing is downloaded. Each step has its own time
# limit, and none stops another, but that all need the build.
# REPORT gets summary.txt, log.txt, facts.json and the result files. PYTHON names the Python, which needs a torch with
# CUDA, pytest, pytest-timeout, pytest-benchmark and hypothesis; nvcc and cmake must be there too.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
case ${1:--} in -*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
where=$1
shift
[ $# -gt 0 ] || set -- sanitizers tests facts ceilings benches
for name in "$@"; do
  case $name in
    sanitizers | tests | facts | ceilings | benches) ;;
    *) echo "$name is no step: sanitizers, tests, facts, ceilings, benches"; exit 2 ;;
  esac
done
"${PYTHON:-python3}" -c 'import torch; torch.zeros(1, device="cuda")' ||
  { echo "${PYTHON:-python3}, which PYTHON names, has no torch that sees a GPU: nothing can be measured"; exit 2; }
mkdir -p "$where" && report=$(cd "$where" && pwd) || exit 2

most=590 # seconds in all
export report python=${PYTHON:-python3} tree PYTHONUNBUFFERED=1 MPLBACKEND=Agg
export PATH=$PATH:/usr/local/cuda/bin
unset ZOOMKERN_NATIVE ZOOMKERN_CUDA ZOOMKERN_TORCH ZOOMKERN_BACKEND ZOOMKERN_SIMD ZOOMKERN_CHECK TRITON_INTERPRET
unset ZOOMKERN_GATHER_MULTIPROCESSORS ZOOMKERN_TEST_DEVICE TORCH_CUDA_ARCH_LIST
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
began=$SECONDS
: >"$report/log.txt"
: >"$report/summary.txt"

note() { # note SECONDS NAME VERDICT: a line of the summary
  printf '%5d s  %-24s %s\n' "$@" | tee -a "$report/summary.txt"
}

step() { # step NAME LIMIT COMMAND...
  local name=$1 limit=$2 start=$SECONDS verdict=passed code=0 left=$((most - SECONDS + began))
  [ "$limit" -lt "$left" ] || limit=$left
  [ "$limit" -gt 5 ] || { note 0 "$name" "STOPPED before it began: no time was left"; return; }
  printf '\n=== %s\n' "$name" >>"$report/log.txt"
  timeout --signal=INT --kill-after=10 "$limit" "${@:3}" >>"$report/log.txt" 2>&1 || code=$?
  [ $code -eq 0 ] || verdict="FAILED ($code): see log.txt"
  [ $code -ne 124 ] && [ $code -ne 137 ] || verdict="STOPPED after its $limit s"
  local counts
  counts=$(sed -n "/^=== $name\$/,\$p" "$report/log.txt" | grep -oE '[0-9]+ (passed|failed|skipped|error).* in [0-9.]+s' | tail -1)
  [ -z "$counts" ] || [[ $counts = *passed* ]] || [ $code -ne 0 ] || verdict="FAILED: nothing ran"
  note $((SECONDS - start)) "$name" "$verdict${counts:+; $counts}"
}

build() {
  set -e
  cd "$root"
  tar -c --exclude='*.so' --exclude=__pycache__ --exclude=_build.json \
    CMakeLists.txt Makefile README.md pyproject.toml setup.py csrc zoomkern bench tests docs | tar -x -C "$tree"
  local torch
  torch=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))')
  : "${TORCH_CUDA_ARCH_LIST:=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')}"
  export TORCH_CUDA_ARCH_LIST
  cmake -S "$tree" -B "$tree/build" -DPython_EXECUTABLE="$(command -v "$python")" -DZOOMKERN_TORCH="$torch" \
    -DZOOMKERN_CUDA=1
  cmake --build "$tree/build" --parallel "$(nproc)"
  cmake --install "$tree/build" --prefix "$tree"
  inside "$python" -m zoomkern.cli.main info
}

inside() { # inside COMMAND...: in the copy that was built; git, if it is there, speaks of the tree that was copied
  if [ -d "$root/.git" ]; then export GIT_DIR=$root/.git GIT_WORK_TREE=$root; fi
  (cd "$tree" && PYTHONPATH=$tree "$@")
}

tests() {
  local workers=()
  ! "$python" -c 'import xdist' 2>/dev/null || workers=(-n 6)
  inside "$python" -m pytest -q -m gpu tests/gpu "${workers[@]}"
}

sanitizer() { # sanitizer TOOL BACKEND: a line for the summary; what it said goes to log.txt
  local tool=$1 backend=$2 log=$tree/$2-$1.log start=$SECONDS verdict errors ours
  if ! command -v compute-sanitizer >/dev/null; then
    note 0 "$tool, $backend" "did not run: there is no compute-sanitizer"
    return
  fi
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 inside timeout --kill-after=10 150 \
    compute-sanitizer --tool "$tool" --report-api-errors no --print-limit 20 --error-exitcode 99 \
    "$python" bench/gpu/exercise.py "$backend" >"$log" 2>&1
  local code=$?
  errors=$(grep -oE '(ERROR|RACECHECK) SUMMARY: [0-9]+' "$log" | tail -1 | grep -oE '[0-9]+')
  ours=$(grep -cE '=========     (at|by) (.*zoomkern|_[a-z_]+\+)' "$log") # the names of Triton's begin so
  if [ $code -eq 124 ] || [ $code -eq 137 ]; then
    verdict="STOPPED after 150 s: $(grep -c ' ran$' "$log") of 3 parts were done"
  elif [ $code -eq 0 ] && [ "${errors:-1}" -eq 0 ]; then
    verdict="clean"
  elif [ $code -eq 99 ] || [ "${errors:-0}" -gt 0 ]; then
    verdict="FAILED: $errors errors, $ours lines of them about our kernels"
  elif ! grep -q ' ran$' "$log" && grep -qiE 'not supported|unable to|insufficient' "$log"; then
    verdict="did not run: $(grep -m1 -iE 'not supported|unable to|insufficient' "$log")"
  else
    verdict="FAILED ($code): see log.txt"
  fi
  note $((SECONDS - start)) "$tool, $backend" "$verdict"
}

triton_sanitizers() { # a run that nobody watches fills Triton's cache; its 70 s and 150 s end before the tests' limit
  local tool
  if ! inside "$python" -c 'import triton' 2>/dev/null; then
    note 0 "sanitizers, triton" "did not run: there is no Triton"
    return
  fi
  ! command -v compute-sanitizer >/dev/null ||
    inside timeout --kill-after=10 70 "$python" bench/gpu/exercise.py triton >"$tree/triton.log" 2>&1
  for tool in $tools; do sanitizer "$tool" triton & done
  wait
}

tools="memcheck racecheck initcheck synccheck"
sanitizers() { # all at once, beside the tests: nothing is timed then
  local tool backend
  export TRITON_CACHE_DIR=$tree/triton-cache
  triton_sanitizers &
  for tool in $tools; do sanitizer "$tool" cuda & done
  wait
  for backend in cuda triton; do
    for tool in $tools; do
      printf '\n=== %s, %s\n' "$tool" "$backend" >>"$report/log.txt"
      [ ! -f "$tree/$backend-$tool.log" ] || head -c 60000 "$tree/$backend-$tool.log" >>"$report/log.txt"
    done
  done
}

facts() { inside "$python" -m bench.gpu.facts >"$report/facts.json" && cat "$report/facts.json"; }

measure() { # measure SECONDS-A-ROW FILE...
  local options=(--benchmark-only --bench-device cuda --bench-threads "$(nproc)" --bench-seconds "$1")
  inside "$python" -m pytest -q "${@:2}" "${options[@]}" --bench-results "$report"
}

ceilings() { measure 0.3 bench/gpu/bench_ceilings.py; }
benches() {
  measure 0.6 bench/gpu/bench_gathering.py bench/gpu/bench_patches.py bench/gpu/bench_drawing.py \
    bench/ops/bench_sampling.py bench/ops/bench_expectation.py
}

export root
export -f build inside tests facts measure ceilings benches
step build 200 bash -c build
! grep -q 'build .*\(FAILED\|STOPPED\)' "$report/summary.txt" || { tail -n 40 "$report/log.txt"; exit 1; }
for name in "$@"; do
  case $name in
    tests) step tests 230 bash -c tests ;;
    sanitizers) sanitizers & ;;
    facts) wait && step facts 40 bash -c facts ;;
    ceilings) wait && step ceilings 130 bash -c ceilings ;;
    benches) wait && step benches 200 bash -c benches ;;
  esac
done
wait
tail -n 40 "$report/log.txt"
printf '\n%5d s  in all\n' $((SECONDS - began)) | tee -a "$report/summary.txt"
cat "$report/summary.txt"
! grep -qE 'FAILED|STOPPED' "$report/summary.txt"
