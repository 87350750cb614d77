# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0
# make help lists the targets. Everything runs in .venv, which `make setup` makes and keeps up to date.
.PHONY: setup test lint fuzz soak demo clean help
.DEFAULT_GOAL := help

PY := .venv/bin/python

# Left by the ROS wheels in processes they start; it would keep the ones here from finding their libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

# On a small machine one more than cores: the soak and the nodes of other tests mostly wait.
WORKERS = $(shell unset OMP_NUM_THREADS; n=$$(nproc); echo $$((n < 4 ? n + 1 : 4)))

# $(call flag,--name,VARIABLE): the option, when the variable is set.
flag = $(if $($(2)),$(1) '$($(2))')
DEMO_FLAGS = $(strip $(call flag,--duration,DURATION) $(call flag,--source,SOURCE) $(call flag,--split,SPLIT) \
	$(call flag,--interval,INTERVAL) $(call flag,--rate,RATE) $(call flag,--bundle,BUNDLE) \
	$(call flag,--backend,BACKEND) $(call flag,--flow,FLOW) $(call flag,--seed,SEED) $(call flag,--out,OUT))

setup: ## make or update the environment (variables: PYTHON, TORCH)
	@tools/setup.sh

lint: setup ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m mypy

test: lint ## lint and the whole default test suite (variable: PYTEST_ARGS)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

fuzz: setup ## many random images, whole and broken, into the conversions (variable: PYTEST_ARGS)
	@$(PY) -m pytest -n $(WORKERS) --hypothesis-profile fuzz test/test_fuzz_inputs.py $(PYTEST_ARGS)

soak: setup ## half an hour of random faults on the running node: memory, accounts, latency (variable: SOAK_ARGS)
	@PYTHONPATH=. $(PY) benchmarks/soak.py --num_threads 2 --out benchmarks/soak.json --plot docs/images/soak.png $(SOAK_ARGS)

demo: setup ## camera, node and live table over real DDS (variables: see below)
	@exec $(PY) -m dff_ros.ros.demo $(DEMO_FLAGS)

clean: ## remove the environment, outputs and caches
	rm -rf .venv .setup.lock out build install log dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16
	@echo
	@echo 'Variables of make demo (make demo DURATION=20 INTERVAL=5):'
	@echo '  DURATION  seconds until it ends            SOURCE   street, a video, a folder of images,'
	@echo '  INTERVAL  frames per key frame                      a camvid folder or /dev/video0'
	@echo '  RATE      frames/s; 0: wait for answers    SPLIT    split of a camvid folder: train, val, test'
	@echo '  BUNDLE    model directory                  BACKEND  auto, onnx or torch'
	@echo '  SEED      of the simulated street          FLOW     bundle, dis, or zero (feature copied)'
	@echo '  OUT       directory of demo.mp4, demo.png and demo.json'
