# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the node tells about itself on `/diagnostics`, once a second.

The array is made here and not by diagnostic_updater, which is not everywhere ROS is, asks each task in turn
where one look at the node gives all, and times itself by the node's clock, which stands still with sim time.
"""

from __future__ import annotations

import math
import platform
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Header

from dff_ros import memory
from dff_ros.config import DffConfig, Parameter
from dff_ros.health import WINDOW_S, Figures, Level, Limits
from dff_ros.model import Model
from dff_ros.ros import qos
from dff_ros.ros.conversions import to_key_values
from dff_ros.ros.endpoints import Endpoints

TOPIC = '/diagnostics'
PERIOD_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One diagnostic status; `of` is what it is about, after the node's name. Values of None are left out."""

    of: str
    level: Level
    message: str
    hardware_id: str = ''
    values: Mapping[str, object] = field(default_factory=dict)


def qos_parameters(node: Node) -> list[Parameter]:
    """The parameters by which users override the quality of service of `/diagnostics`."""
    return qos.override_parameters(node, 'publisher', TOPIC, qos.diagnostics_output())


class Diagnostics:
    """Publishes what `reports` gives, each second of a steady clock, in every state of the node."""

    def __init__(self, node: Node, endpoints: Endpoints, reports: Callable[[], Iterable[Report]]) -> None:
        self._node = node
        self._reports = reports
        self._publisher = endpoints.publisher(DiagnosticArray, TOPIC, qos.diagnostics_output())
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PERIOD_S, self._publish, clock=steady)
        self._name = node.get_fully_qualified_name().lstrip('/')

    def _publish(self) -> None:
        try:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            status = [self._to_status(report) for report in self._reports()]
            self._publisher.publish(DiagnosticArray(header=header, status=status))
        except Exception:  # the executor, and with it the node, would end
            self._node.get_logger().error(f'no diagnostics:\n{traceback.format_exc()}')

    def _to_status(self, report: Report) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=bytes([report.level]),
            name=f'{self._name}: {report.of}',
            message=report.message,
            hardware_id=report.hardware_id,
            values=to_key_values({k: v for k, v in report.values.items() if v is not None}),
        )


def camera_report(
    camera: str, topic: str, verdict: tuple[Level, str], values: Mapping[str, object]
) -> Report:
    """The status of a camera, which is told by the topic of its images."""
    level, message = verdict
    name = f'camera {camera}' if camera else 'camera'
    return Report(of=name, level=level, message=message, hardware_id=topic, values={'image': topic, **values})


def camera_figures(figures: Figures, limits: Limits) -> dict[str, object]:
    """How a camera did in the window, and what it is judged by."""
    return {
        'window_s': WINDOW_S,
        'rate_in_hz': figures.rate_in_hz,
        'rate_out_hz': figures.rate_out_hz,
        'latency_p50_ms': figures.latency_p50_ms,
        'latency_p99_ms': figures.latency_p99_ms,
        'latency_warn_ms': _finite(limits.latency_warn_ms),
        'latency_error_ms': _finite(limits.latency_error_ms),
        'silence_s': figures.silence_s,
        'unanswered_s': figures.unanswered_s,
        'stale_s': limits.stale_s,
        'key_ratio': figures.key_ratio,
        'age_frames_mean': figures.age_frames_mean,
        'age_s_mean': figures.age_s_mean,
        'degraded_ratio': figures.degraded_ratio,
        'dropped_last_s': sum(figures.drops.values()),
        **{f'dropped_last_s.{reason}': number for reason, number in figures.drops.items()},
    }


def _finite(limit: float) -> float | None:
    return limit if math.isfinite(limit) else None


def model_values(model: Model | None, config: DffConfig) -> dict[str, object]:
    """What runs where; of a node without a model what it is asked for."""
    asked: dict[str, object] = {'bundle': config.bundle, 'refresh': config.refresh}
    if model is None:
        return asked
    info, worker = model.engine.backend.info, model.engine.worker
    return asked | {
        'backend': info.name,
        'runtime': info.runtime,
        'device': info.device,
        'provider': info.provider or None,
        'precision': info.precision,
        'fallback': info.fallback or None,
        'num_threads': info.num_threads,
        'refresh_threads': worker.info.num_threads if worker else None,
    }


def node_report(verdict: tuple[Level, str], device: str, values: Mapping[str, object]) -> Report:
    """The status of the node itself, which is told by the machine and the device in use."""
    level, message = verdict
    memory_values = {'memory_mb': memory.resident_mb(), 'gpu_memory_mb': memory.gpu_mb()}
    hardware_id = f'{platform.node()} {device}'.strip()
    return Report(
        of='node', level=level, message=message, hardware_id=hardware_id, values={**values, **memory_values}
    )
