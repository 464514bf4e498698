# The two commands are `make demo` and `make test`; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread per process: tiny matrices run slower on more, and tests share the machine.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-slow test-all check lint types layers docs pocket zoo bench bench-zoo bench-crawl bench-candidates bench-fingerprint bench-evolution bench-explorer fuzz clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-pocket: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e '.[pocket]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-cluster: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e '.[cluster]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed ## run the main job on the pocket Hub and open the explorer on port 8501
	$(BIN)/herdbook demo

test: $(VENV)/.installed-test ## format, lint, types, import layers, and all tests but the slow ones
	@.ci/install-debian
	$(MAKE) --no-print-directory check
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/.installed-test $(VENV)/.installed-pocket $(VENV)/.installed-cluster ## the tests that need mergekit, Ray or minutes
	$(BIN)/pytest -m slow

test-all: test test-slow ## every test

check: lint types layers docs ## everything that reads the code without running it

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

layers: $(VENV)/.installed-test
	$(BIN)/lint-imports

docs: $(VENV)/.installed-test ## check the generated page and run the examples in docstrings
	$(BIN)/python -m lineage.store.document --check docs/data-model.md
	$(BIN)/pytest -q --doctest-modules crawler lineage --ignore=lineage/explorer \
		--ignore=lineage/weights/sketch/fused_kernel.py  # needs Triton

pocket: $(VENV)/.installed-pocket ## train and assemble the pocket Hub again (minutes)
	$(BIN)/python -m data.build_pocket --out data/pocket

zoo: $(VENV)/.installed-pocket ## train the proving ground, hundreds of models with known ancestors (an hour or two)
	$(BIN)/python -m benchmarks.zoo build --out zoo

bench-zoo: $(VENV)/.installed ## what the inference reaches on the test split of the proving ground
	$(BIN)/python -m benchmarks.zoo report zoo
	$(BIN)/python -m benchmarks.zoo measure zoo

bench: $(VENV)/.installed ## measure bytes and time; results are printed, not asserted
	$(BIN)/python -m benchmarks.probe_cost

bench-crawl: $(VENV)/.installed ## list a simulated Hub of 3 million models (10 minutes; needs ../shared/data)
	@$(BIN)/python -m benchmarks.crawl || test $$? -eq 77

bench-candidates: $(VENV)/.installed ## search relatives among up to a million simulated models; families of thousands (hours)
	$(BIN)/python -m benchmarks.candidates

bench-fingerprint: $(VENV)/.installed ## what reading weights costs: bytes, ranges, kernels, the whole pass, a GPU (20 minutes)
	$(BIN)/python -m benchmarks.probe_cost --configs
	$(BIN)/python -m benchmarks.range_reader
	$(BIN)/python -m benchmarks.fingerprint
	$(BIN)/python -m benchmarks.sketch_cpu
	$(BIN)/python -m benchmarks.gpu

bench-evolution: $(VENV)/.installed ## A⁻¹ of 3 million models, animal models, the simulator, 200 simulated Hubs (an hour)
	$(BIN)/python -m benchmarks.evolution.relatedness
	$(BIN)/python -m benchmarks.evolution.simulator
	$(BIN)/python -m benchmarks.evolution.coverage

bench-explorer: $(VENV)/.installed ## publish, serve and browse a simulated register of 3 million models (half an hour)
	@$(BIN)/python -m benchmarks.explorer.browse || test $$? -eq 77

fuzz: $(VENV)/.installed-test ## a million hostile inputs for every parser, as one would every night
	nice -n 10 $(BIN)/python -m tests.fuzz.run --cases 1000000 --jobs 2 --save fuzz-found

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
