# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The exceptions of the package: every message says what was given, what is allowed and what to do."""


class DffError(Exception):
    """Base of all errors that a user can cause or mend."""


class ConfigError(DffError, ValueError):
    """A parameter, flag or size is outside what is allowed."""


class BundleError(DffError):
    """A model directory is missing, damaged, not as its manifest says, or of an unknown version."""


class ShapeError(DffError, ValueError):
    """An array has another shape or dtype than the function takes."""


class ConversionError(DffError, ValueError):
    """A message, image or video frame cannot be converted."""


class DataError(DffError):
    """A data set is incomplete, unreadable or inconsistent."""


class BackendUnavailableError(DffError):
    """The runtime or device that was asked for is not there."""
