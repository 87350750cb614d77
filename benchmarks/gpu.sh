#!/usr/bin/env bash
# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0
# The tests marked gpu, then the torch backend with a ResNet-101 at 1024x2048: ten minutes of a machine that may have
# nothing but Python, torch, ONNX, OpenCV and pytest. Writes gpu_tests.log and torch.json to OUT (default: the folder
# below benchmarks/ with the GPU's name).
#   benchmarks/gpu.sh [OUT]
set -u
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1

if ! "$python" -c 'from importlib.metadata import version; version("dff_ros")' 2>/dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-deps --no-build-isolation --target "$site" . || exit
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
name=$("$python" -c '
import torch
from dff_ros.benchmark.machine import machine_name
print(machine_name(f"cuda ({torch.cuda.get_device_name()})"))') || exit
out=${1:-benchmarks/$name}
mkdir -p "$out"
out=$(realpath "$out")

mapfile -t tests < <(grep -lE 'mark\.gpu\b' test/test_*.py)
timeout 240 "$python" -m pytest -m gpu -p no:cacheprovider --tb=short --continue-on-collection-errors \
    "${tests[@]}" 2>&1 | tee "$out/gpu_tests.log"
tested=${PIPESTATUS[0]}

timeout 330 "$python" -m dff_ros.cli bench --bundle untrained:resnet101+flownet_half --size 2048x1024 \
    --backends torch --device cuda --precisions fp16 --refresh inline,worker --intervals 5,10,20 --seconds 30 \
    --out "$out/torch.json"
measured=$?
exit $((tested || measured))
