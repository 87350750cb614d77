# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The simulated street: a seeded, endless drive with exact labels, instances, boxes and flow."""

from dff_ros.data.street.simulation import Box, Street, StreetFrame, render_sequence

__all__ = ['Box', 'Street', 'StreetFrame', 'render_sequence']
