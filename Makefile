# Two commands do everything on a fresh machine: make demo, make test.
# They need Python 3.11 or newer and the Python Package Index; no compiler, no server.

PYTHON ?= python3
VENV ?= .venv
DATA ?= .data
PORT ?= 5222
RUNS ?= 12

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check -q
SOURCES = setup.cfg setup.py $(shell find archive_crypt twisted sql -name '*.py' -o -name '*.sql')

.PHONY: help demo test test-servers faults conformance run audit bench bench-reader bench-servers fuzz lint clean

help:
	@echo "make demo    watch two clients talk, and the archive that cannot read them"
	@echo "make test    all tests but the next"
	@echo "make test-servers   tests beside real ejabberd and Prosody, which apt fetches"
	@echo "make faults  kill, stop, freeze, fill and cut while people talk: what is lost? (10 minutes; SECONDS=60)"
	@echo "make run     the same server, staying up (PORT=$(PORT) DATA=$(DATA))"
	@echo "make conformance   which clause of the standards is proved by which test"
	@echo "make audit   look for keys and texts in the memory of running servers (RUNS=12, half an hour)"
	@echo "make bench   the figures of README, measured here"
	@echo "make bench-reader   what the reader does with a large archive, and where the time goes"
	@echo "make bench-servers   the same beside real ejabberd and Prosody, and of their own archives"
	@echo "make fuzz    a million inputs that mean harm (INPUTS=1000000)"
	@echo "make lint    ruff and mypy"

demo: $(VENV)/.demo
	@$(BIN)/archive-crypt demo

run: $(VENV)/.demo
	@exec $(BIN)/archive-crypt run --port $(PORT) --data "$(DATA)"

test: $(VENV)/.test
	$(BIN)/python -m pytest

test-servers: $(VENV)/.test
	@$(BIN)/python -m tests.servers.install
	$(BIN)/python -m pytest tests/servers

faults: $(VENV)/.test
	$(BIN)/python -m tests.faults $(if $(SECONDS),--seconds $(SECONDS))

conformance: $(VENV)/.test
	$(BIN)/python -m tests.conformance

audit: $(VENV)/.demo
	@$(BIN)/archive-crypt audit-memory --runs $(RUNS)

# SMALL=1: whether it works, not how fast it is.
bench: $(VENV)/.test
	$(BIN)/python -m bench $(if $(SMALL),--messages 1000 --collections 50 --rounds 1)

bench-reader: $(VENV)/.test
	$(BIN)/python -m bench.reader $(if $(SMALL),--messages 50 --collections 5 --rounds 1)

bench-servers: $(VENV)/.test
	@$(BIN)/python -m tests.servers.install
	$(BIN)/python -m bench.servers $(if $(SMALL),--messages 200 --rounds 1 --read 200 --burst 200)

# SECONDS=20: so long, not so many.
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),1000000) $(if $(SECONDS),--seconds $(SECONDS))

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p archive_crypt

# The virtual environment: what it takes to run, and what it takes to test besides. The package
# itself is installed plainly: an editable install would hide its plugin from twistd.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made constraints.txt $(SOURCES)
	@echo "Installing archive_crypt and what it needs ..."
	@rm -rf build archive_crypt.egg-info
	@$(PIP) install -c constraints.txt '.[embedded,reader]'
	@rm -rf build archive_crypt.egg-info
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "Installing what the tests need ..."
	@$(PIP) install -c constraints.txt '.[embedded,reader,test]'
	@rm -rf build archive_crypt.egg-info
	@touch $@

$(VENV)/.fuzz: $(VENV)/.test
	@echo "Installing what fuzzing needs ..."
	@$(PIP) install -c constraints.txt '.[embedded,reader,test,fuzz]'
	@rm -rf build archive_crypt.egg-info
	@touch $@

clean:
	rm -rf $(VENV) .servers .fuzz build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
