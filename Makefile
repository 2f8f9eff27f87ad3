# Two commands: `make demo` and `make test`. Each sets up everything it needs in .venv; a second run starts in seconds.
PYTHON ?= python3.11
BIN := .venv/bin
# Pinned apart from requirements.lock: pip's own CPU build, where uv would take gigabytes of CUDA.
TORCH := torch==2.13.0

FRAMEWORKS := .venv-frameworks

.PHONY: demo test test-frameworks setup lint types contracts unit cluster e2e test-clients test-kuberay bench lock clean

demo: setup
	$(BIN)/python -m examples.demo $(DEMO_ARGS)

test: lint types contracts unit cluster e2e

setup: .venv/ready

# uv installs in a fraction of pip's time; pip is the fallback where uv cannot reach the index.
.venv/ready: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error[no_python]: $(PYTHON) is not installed"; echo "hint: make PYTHON=/path/to/python3.11 …"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the pinned dependencies into .venv (a minute or two, once)"
	@{ $(BIN)/python -m pip install -q --disable-pip-version-check "uv>=0.5" && $(BIN)/uv pip install -q --python $(BIN)/python -r requirements.lock; } \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(TORCH)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

unit: setup
	$(BIN)/python -m pytest tests/unit tests/sim -n auto

# The frameworks that `test` leaves out, and all the others, in an environment of their own: 6 GB, a quarter of an hour the first time.
test-frameworks: $(FRAMEWORKS)/ready
	$(FRAMEWORKS)/bin/python -m pytest tests/unit/runtimes -rs

$(FRAMEWORKS)/ready: pyproject.toml
	@test -x $(FRAMEWORKS)/bin/python || $(PYTHON) -m venv $(FRAMEWORKS)
	@$(FRAMEWORKS)/bin/python -m pip install -q --disable-pip-version-check $(TORCH)
	@$(FRAMEWORKS)/bin/python -m pip install -q --disable-pip-version-check -e ".[torch,litert,sklearn,tensorflow,mindspore,profile]" pytest pytest-timeout
	@touch $@

cluster: setup
	$(BIN)/python -m pytest tests/cluster --durations=12

e2e: setup
	$(BIN)/python -m pytest tests/e2e --durations=20

# The foreign clients and servers of the Open Inference Protocol, each in an environment of its own (0.8 GB, once).
test-clients: setup
	FABRIC_ALL_CLIENTS=1 $(BIN)/python -m pytest tests/e2e/test_foreign_clients.py -rs

# KubeRay's own definitions, which are not in the repository: the manifests, and the schema that the unit tests check them with, against them.
KUBERAY := v1.7.0
CRDS := build/kuberay-$(KUBERAY)
test-kuberay: setup $(CRDS)/ready
	KUBERAY_CRDS=$(CRDS) $(BIN)/python -m pytest tests/unit/test_kuberay_manifests.py -rs

$(CRDS)/ready:
	@mkdir -p $(CRDS)
	@for kind in rayclusters rayservices; do curl -fsSL -o $(CRDS)/$$kind.yaml \
	  https://raw.githubusercontent.com/ray-project/kuberay/$(KUBERAY)/ray-operator/config/crd/bases/ray.io_$$kind.yaml || exit 1; done
	@cd $(CRDS) && printf '%s\n' 'c44704442eef0c6721ad40c1d66782c8bd3fdab9d3344306a5820910a679baa1  rayclusters.yaml' \
	  '0a8fc325e6e22b9231c1f282b309555e2ecf94227ca20a03df3d1d9a403907ab  rayservices.yaml' | sha256sum -c --quiet
	@touch $@

bench: setup
	for file in routing task_overhead startup; do $(BIN)/python benchmarks/$$file.py || exit 1; done

# Pin anew what pyproject.toml asks for, but for the frameworks: torch is pinned above, the large ones are `test-frameworks`' own.
LOCKED := postgres demo profile litert sklearn dev
lock:
	$(BIN)/uv pip compile -q pyproject.toml $(LOCKED:%=--extra %) --python-version 3.11 --no-header --no-annotate --upgrade -o requirements.lock

clean:
	rm -rf .venv $(FRAMEWORKS) build dist *.egg-info
