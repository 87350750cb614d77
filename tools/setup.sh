#!/bin/sh
# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0
# Find a Python that the project supports and hand over to setup_env.py.
# PYTHON=... names the interpreter; otherwise the first suitable one is taken, and with a ROS 2
# installation sourced the first one that can import its rclpy.
set -eu
cd "$(dirname "$0")/.."

# An activated .venv must not be the interpreter that (re)makes itself.
PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -vxF "$PWD/.venv/bin" | paste -sd: -)

suits() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1
}

found=
for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
    suits "$candidate" || continue
    found=${found:-$candidate}
    if [ -z "${AMENT_PREFIX_PATH:-}${ROS_DISTRO:-}" ] || "$candidate" -c 'import rclpy' >/dev/null 2>&1; then
        found=$candidate
        break
    fi
done

if [ -z "$found" ]; then
    if [ -n "${PYTHON:-}" ]; then
        echo "error: PYTHON=$PYTHON is not a Python 3.11 or 3.12" >&2
    else
        echo "error: no Python 3.11 or 3.12 found: sudo apt install python3.11 python3.11-venv python3.11-dev" \
            "(Ubuntu 24.04: python3.12 python3.12-venv python3.12-dev)" >&2
    fi
    exit 1
fi
exec "$found" tools/setup_env.py
