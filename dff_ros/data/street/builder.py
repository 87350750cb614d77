# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Fills a zone of the street with everything that stands still."""

from dff_ros.data.street import furniture, plots
from dff_ros.data.street.hashing import rng_of
from dff_ros.data.street.layout import Layout, Zone
from dff_ros.data.street.site import Site


def build_zone(layout: Layout, number: int) -> Zone:
    """All static things of one zone; depends on the seed and the number only."""
    zone = Zone(number)
    site = Site(layout, zone, rng_of(layout.seed, 51, number))
    for side in (-1, 1):
        plots.line_up(site, side)
        furniture.trees(site, side)
        furniture.furniture(site, side)
        furniture.park(site, side)
    furniture.crossing(site)
    return zone
