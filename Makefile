.PHONY: install native test gpu test-gpu bench bench-gpu cuda-record report lint format clean

NATIVE = $(shell find csrc tests -name "*.[hc]pp" -o -name "*.inl" -o -name "*.cu*")

install: ; pip install -e ".[test,bench,dev]"
native: ; cmake -S . -B build/native -G Ninja && cmake --build build/native && cmake --install build/native --prefix .
test: ; python -m pytest
gpu: ; @python -c "import sys, torch; torch.cuda.is_available() or sys.exit('torch sees no CUDA device')"
test-gpu: gpu ; python -m pytest -m gpu
bench: ; python -m pytest bench/ops/bench_*.py bench/readers/bench_*.py bench/models/bench_*.py --benchmark-only --bench-results bench/results
cuda-record: ; python tests/cuda/record.py zoomkern/lib/libzoomkern_cuda.so
bench-gpu: gpu ; python -m pytest bench/gpu/bench_*.py bench/ops/bench_sampling.py bench/ops/bench_expectation.py --benchmark-only --bench-device cuda --bench-threads $$(nproc) --bench-results bench/results
report: ; python -m bench.report
lint: ; ruff check && ruff format --check && mypy && lint-imports && clang-format --dry-run --Werror $(NATIVE)
format: ; ruff check --fix && ruff format && clang-format -i $(NATIVE)
clean: ; rm -rf build dist *.egg-info zoomkern/lib zoomkern/_host*.so zoomkern/_build.json
