# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Training: settings, seeded batches, the loop, checkpoints and the log."""
