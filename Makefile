# For developers; ./demo and ./test are the front door. `make` lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
VENV ?= .venv
BIN := $(VENV)/bin
PY := PYTHONPATH=. $(BIN)/python

# Sizes of the campaigns: small by default, e.g. make fault-kill KILLS=5000
SEED ?= 1
KILLS ?= 50
CUTS ?= 3
ENTRIES ?= 500
FUZZ ?= 100000
FLOOD ?= 20000
COUNT ?= 1000
DURATION_S ?= 60
HOURS ?= 1
CALL_STEP ?= 10

# What is built, and for whom: amd64 or arm64, Debian 12 (Python 3.11) or 13 (3.13).
ARCH ?= amd64
PYTHON_FOR ?= 3.11
SUITE ?= $(if $(filter 3.13,$(PYTHON_FOR)),trixie,bookworm)
WHEELHOUSE := dist/wheelhouse-$(PYTHON_FOR)-$(ARCH)
MESSAGES ?= 100000
STORED ?= 1000000

.PHONY: help dev check format test demo docs dist dst clean wheelhouse deb sbom system-test soak
.PHONY: bench bench-core bench-gateway bench-ledger bench-devices bench-market bench-market-edge bench-network bench-sim bench-wiring bench-step bench-page
.PHONY: fault fault-kill fault-kill-gateway fault-market fault-restart fault-syscalls fault-power fault-flip fault-ledger-fuzz fault-modbus fault-network fault-doors fault-site

help:  ## this list
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev:  ## .venv with the locked, hash-checked dependencies
	@VENV=$(VENV) bash -c 'source .ci/venv'

check: dev  ## format, lint, types, imports, house rules: before every commit
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache | tail -n 3
	$(BIN)/pytest -q -p no:cacheprovider tests/test_tidy.py

format: dev  ## ruff's own mending
	$(BIN)/ruff format -q .
	$(BIN)/ruff check -q --fix .

test:  ## everything
	./test

demo:  ## the demo, results in demo-out/
	./demo --keep demo-out

docs: dev  ## pages against the program: links, commands, tables, diagram, help
	$(BIN)/pytest -q -p no:cacheprovider tests/test_docs.py tests/test_readme.py

dist: dev  ## wheel and source archive in dist/, the same bytes from the same commit
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(BIN)/hatchling build

wheelhouse: dev  ## every wheel of ARCH and PYTHON_FOR in dist/, to install without a network
	$(BIN)/python .ci/wheelhouse.py $(WHEELHOUSE) --arch $(ARCH) --python $(PYTHON_FOR)

deb: wheelhouse  ## Debian package of ARCH and PYTHON_FOR in dist/
	$(BIN)/python .ci/deb.py dist --wheels $(WHEELHOUSE) --arch $(ARCH) --python $(PYTHON_FOR)

sbom: dev  ## bill of materials (CycloneDX) and licences of everything locked in dist/
	$(BIN)/python .ci/sbom.py dist

system-test: deb  ## an installation's whole life in a throw-away Debian (needs root, debootstrap, systemd-container)
	tests/deploy/system_test.sh dist/sopgw_*+deb$(if $(filter 3.13,$(PYTHON_FOR)),13,12)_$(ARCH).deb $(SUITE)

soak: dev  ## HOURS of ten times the nominal load on real sockets
	$(PY) tests/soak/soak.py --hours $(HOURS)

clean:  ## caches and built files, not .venv
	rm -rf build dist demo-out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find gateway ledger firmware_sim tests -name __pycache__ -type d -prune -exec rm -rf {} +

bench: bench-core bench-ledger bench-devices bench-market bench-market-edge bench-network bench-sim bench-wiring  ## every figure that needs no other environment

bench-gateway: dev  ## message to confirmed setpoint, CPU and memory of the gateway
	$(PY) tests/bench/bench_gateway.py

bench-page: dev  ## requests to the page beside a plain handler
	$(PY) tests/bench/bench_page.py

bench-core: dev  ## scan cost and delivery error in virtual time
	$(PY) tests/bench/bench_core.py
	$(PY) tests/bench/bench_core_delivery.py

bench-ledger: dev  ## append, verify, prove, beside bare syncs and SQLite
	$(PY) tests/bench/bench_ledger.py

bench-devices: dev  ## Modbus client beside libmodbus, pymodbus, plain streams (needs gcc, libmodbus)
	$(PY) tests/bench/bench_devices.py
	$(PY) tests/bench/bench_devices_opcua.py

bench-market: dev  ## tables of docs/papers.md, and the digest that must be the same everywhere
	$(PY) tests/bench/bench_market.py --fast
	$(PY) tests/bench/bench_digest.py

bench-market-edge: dev  ## reading, refusing, altered messages; SIGKILL of the consumer (needs mosquitto)
	$(PY) tests/bench/bench_market_mutations.py 5 5000
	$(PY) tests/bench/bench_market_kill.py 1000 5

bench-network: dev  ## four countersigning nodes
	$(PY) tests/bench/bench_network.py

bench-sim: dev  ## physics and Modbus of the simulated devices
	$(PY) tests/bench/bench_sim_physics.py
	$(PY) tests/bench/bench_sim_modbus.py

bench-wiring: dev  ## how often the wiring check is right
	$(PY) tests/bench/bench_wiring.py 3

bench-step: dev  ## how near the step test's times are to the truth
	$(PY) tests/bench/bench_step.py

dst: dev  ## HOURS of plant time in the deterministic simulation, seed by seed from SEED
	$(PY) tests/dst/run.py --hours $(HOURS) --seed $(SEED)

fault: fault-kill fault-syscalls fault-flip fault-ledger-fuzz fault-modbus $(if $(shell command -v etcd),fault-network)  ## campaigns that need no root; the network's where etcd is installed

fault-kill: dev  ## KILLS times SIGKILL on a growing ledger
	$(PY) tests/fault/ledger_kill.py --kills $(KILLS) --seed $(SEED)

fault-syscalls: dev  ## faults at every CALL_STEP-th system call (needs strace)
	$(PY) tests/fault/ledger_syscalls.py --step $(CALL_STEP)

fault-power: dev  ## CUTS power cuts on a disk of its own (needs root and loop devices)
	$(PY) tests/fault/ledger_power.py --cuts $(CUTS) --seed $(SEED)

fault-flip: dev  ## every byte of ENTRIES entries changed in turn
	$(PY) tests/fault/ledger_flip.py --entries $(ENTRIES) --step 1

fault-ledger-fuzz: dev  ## FUZZ random files to the readers of the ledger
	$(PY) tests/fault/ledger_fuzz.py --runs $(FUZZ) --seed $(SEED)

fault-doors: dev  ## COUNT bad inputs at every door: page, socket, OPC UA, witness, node, topics (Mosquitto), files of commands
	$(PY) tests/fault/fuzz_doors.py --count $(COUNT) --seed $(SEED)

fault-modbus: dev  ## FLOOD mutated Modbus answers
	$(PY) tests/fault/fuzz_modbus.py --count $(FLOOD) --seed $(SEED)

fault-site: dev  ## six things around a running gateway go bad, with what becomes of it (needs root, strace, faketime)
	$(PY) tests/fault/site_faults.py

fault-kill-gateway: dev  ## KILLS further SIGKILLs of trading gateways on several sites; goes on from kill-gateway.jsonl
	$(PY) tests/fault/kill_gateway.py --kills $(KILLS) --seed $(SEED)

fault-market: dev  ## MESSAGES duplicated, reordered, late trades against a sequential model; 4,000 by a broker
	$(PY) tests/fault/market_duplicates.py --messages $(MESSAGES) --broker 4000 --seed $(SEED)

fault-restart: dev  ## starts on a ledger of STORED entries (10,000,000 need 3 GB of disk)
	$(PY) tests/fault/restart_scale.py --entries $(STORED)

fault-network: dev  ## four nodes on three etcd members under crashes, partitions and lies (needs etcd)
	$(PY) tests/fault/network_etcd.py --seconds $(DURATION_S) --seed $(SEED)
