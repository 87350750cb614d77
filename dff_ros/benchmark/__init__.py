# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What `dff bench` measures."""
