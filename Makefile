# Every target works on a fresh machine: it creates .venv and installs what requirements.txt pins.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
STEP := @printf '\n== %s\n'

.PHONY: demo test check claims bench bench-serve bench-load bench-check gpu protos clean install

demo: $(INSTALLED)  ## measure the built-in zoo, then a live run on it; prints where to look
	$(STEP) "1/2  profiling the built-in zoo (at most 10 minutes on 2 cores)"
	$(BIN)/python profiling/fit_curves.py --out runs/demo-profile
	$(STEP) "2/2  a live run: an edge node, a cloud, a controller, real requests"
	$(BIN)/python -m controller run --config live-demo.toml --profile runs/demo-profile/profile.json
	$(STEP) "done. Curves: runs/demo-profile/report.html; the live run's report: as printed above"

test: $(INSTALLED)  ## the whole test suite; gpu tests skip visibly without a GPU
	$(BIN)/python -m pytest

check: $(INSTALLED)  ## format, lint, types, import rules, drift of stubs and reference
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m protos.compile --check
	$(BIN)/python docs/generate_reference.py --check

claims: $(INSTALLED)  ## recompute every figure that README and docs state from its record
	$(BIN)/python -m controller claims

bench: $(INSTALLED)  ## benchmarks: ratios measured side by side in one run
	$(BIN)/python -m pytest -m bench -s

bench-serve: $(INSTALLED)  ## ways to serve one model, side by side; some minutes
	$(BIN)/python -m profiling.bench serving --out results/serving

bench-load: $(INSTALLED)  ## loads against this machine's limits; some minutes, 4 GB of disk, 16 GB of memory
	$(BIN)/python -m profiling.bench loading --full-size --out results/loading

bench-check: $(INSTALLED)  ## fail where the engine lost over 10 % against this machine's committed ratios
	$(BIN)/python -m profiling.bench check

gpu: $(INSTALLED)  ## full-size models on a GPU, in stages that resume; 8 minutes, 16 GB of disk
	$(BIN)/python -m profiling.bench gpu --out results/gpu

protos: $(INSTALLED)  ## regenerate the committed gRPC stubs
	$(BIN)/python -m protos.compile

install: $(INSTALLED)  ## only create .venv

clean:  ## remove what can be made again; runs/ holds results and stays
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and alone: where pip finds a local CPU build, nothing may ask for another one.
$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet "$$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.txt)"
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
