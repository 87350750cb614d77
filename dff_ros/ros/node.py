# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The lifecycle node: images in; label map, class names, boxes, overlay and status out, for each camera.

Topics, relative to the node's namespace and below the name of a camera, if it has one: `image` and
`camera_info`; `dff/segmentation`, `dff/confidence`, `dff/label_info`, `dff/camera_info`, `dff/detections`,
`dff/overlay`, `dff/status`, `dff/frame_status` (docs/outputs.md).
Images are taken on threads of their own and only stored, as by the executor's callbacks; one engine thread
converts, computes and publishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter

from dff_ros import memory
from dff_ros.config import DffConfig, walk
from dff_ros.errors import DffError
from dff_ros.health import Level
from dff_ros.mailbox import Mailbox, Taken
from dff_ros.model import Model, in_words, open_model
from dff_ros.pipeline import Received
from dff_ros.ros import diagnostics, process
from dff_ros.ros.camera_topics import CameraTopics, qos_parameters
from dff_ros.ros.diagnostics import Diagnostics, Report
from dff_ros.ros.endpoints import Endpoints
from dff_ros.ros.namesakes import Namesakes
from dff_ros.ros.parameters import (
    AUTOSTART,
    NODE_PARAMETERS,
    RuntimeParameters,
    check_values,
    declare,
    declare_cameras,
    declare_unchecked,
    read_config,
    unknown_names,
    unknown_overrides,
    usage,
)
from dff_ros.ros.services import DISABLED, Services
from dff_ros.ros.transitions import refuse_impossible_transitions
from dff_ros.ros.worker import EngineWorker
from dff_ros.tasks import plan_tasks

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class DffNode(LifecycleNode):
    """Deep Feature Flow on one camera or many: one model, and for each camera its own topics and key frame.

    configure loads and warms up the model and makes the publishers; activate subscribes; deactivate
    unsubscribes and keeps the model; cleanup frees it. A failed configure says why and leaves a node that can
    be configured again. `open_model` turns the config into the model to run. Raises ConfigError on bad
    parameters.
    """

    def __init__(self, *, open_model: Callable[[DffConfig], Model] = open_model, **options: Any) -> None:
        super().__init__('dff_node', **options)
        self._open_model = open_model
        self._worker: EngineWorker[Received] | None = None
        self._model: Model | None = None
        self._topics: dict[str, CameraTopics] = {}
        self._mailbox: Mailbox[Received] = Mailbox()
        self._wants_autostart = bool(declare(self, [AUTOSTART])[AUTOSTART.name])
        self._cameras = declare_cameras(self)
        self._endpoints = Endpoints(self)
        self._failure = ''
        self._begin_s = time.monotonic()
        declare(self, diagnostics.qos_parameters(self))
        found = (parameter for camera in self._cameras for parameter in qos_parameters(self, camera))
        # By name: cameras may have one topic in common, as camera_info beside the images of both.
        self._qos_parameters = list({parameter.name: parameter for parameter in found}.values())
        declare_unchecked(self, self._qos_parameters)
        self._parameters_now = RuntimeParameters(
            self,
            read_config(self),
            is_unconfigured=lambda: self._worker is None,
            check=self._check_against_model,
            others=self._qos_parameters,
        )
        self._config_applied = self._parameters_now.config
        self._operators = Services(self, len(self._cameras), self._lifecycle_state, self._set_enabled)
        self._namesakes = Namesakes(self)
        self._diagnostics = Diagnostics(self, self._endpoints, self._reports)
        refuse_impossible_transitions(self)

    def start(self, finish: Callable[[int], None]) -> None:
        """Configure and activate where `autostart` is set; calls `finish(2)` where that fails."""
        for line in unknown_overrides(self):
            self.get_logger().warning(line)
        if self._wants_autostart and (
            self.trigger_configure() != SUCCESS or self.trigger_activate() != SUCCESS
        ):
            finish(process.EXIT_USER_ERROR)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, make the publishers, latch the class names."""
        try:
            self._configure(self._parameters_now.config)
        except Exception as error:
            self._log_failure('configured', error)
            self._release()
            memory.release()
            return FAILURE
        self._failure = ''
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras."""
        try:
            for topics in self._topics.values():
                topics.subscribe()
        except Exception as error:
            self._log_failure('activated', error)
            self._unsubscribe()
            return FAILURE
        self._failure = ''
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the frame in hand, keep the model but no key frame."""
        return self._go('deactivated', self._pause)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        return self._go('cleaned up', self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from any state."""
        return self._go('shut down', self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that the node can be configured again."""
        self._release()
        return SUCCESS

    def set_parameters_atomically(self, parameter_list: list[RosParameter]) -> SetParametersResult:
        """As in rclpy, but an unknown parameter is refused by its name."""
        unknown = unknown_names(self, (parameter.name for parameter in parameter_list))
        if unknown:
            return SetParametersResult(successful=False, reason='; '.join(unknown))
        return super().set_parameters_atomically(parameter_list)

    def destroy_node(self) -> None:
        """Join the engine thread, then destroy the node."""
        self._release()
        super().destroy_node()
        self.__dict__.pop('_state_machine', None)  # it keeps the node in the graph until it is collected

    def _go(self, where: str, step: Callable[[], None]) -> TransitionCallbackReturn:
        """Leave the state; after an error, which is logged, `on_error` frees everything."""
        self._failure = ''
        try:
            step()
        except Exception as error:
            self._log_failure(where, error)
            return TransitionCallbackReturn.ERROR
        return SUCCESS

    def _pause(self) -> None:
        self._unsubscribe()
        self._mailbox.clear('inactive')
        self._operators.begin_afresh()

    def _configure(self, config: DffConfig) -> None:
        check_values(self, self._qos_parameters)
        self._mailbox = Mailbox()
        if not self._operators.is_enabled:
            self._mailbox.refuse(DISABLED)
        self._operators.forget()
        for camera in self._cameras:
            self._topics[camera] = CameraTopics(
                self, camera, self._mailbox, config.image_transport, self._endpoints
            )
        self._config_applied = config
        self._worker = EngineWorker(
            self._mailbox, lambda: self._open_model(config), self._answer, self._tell_failure
        )
        model = self._model = self._worker.start()
        model.engine.spread(self._cameras)
        for topics in self._topics.values():
            topics.publishers.open_tasks(model.spec, self.get_clock().now().to_msg())
        names = (name for topics in self._topics.values() for name in topics.names)
        resolved = ', '.join(map(self.resolve_topic_name, names))
        self.get_logger().info(f'{in_words(model, config)}; topics {resolved}')

    def _answer(self, model: Model, taken: Taken[Received]) -> None:
        """Answer an image by the config of now; runs on the engine thread."""
        config = self._parameters_now.config
        if config != self._config_applied:
            model.engine.configure(config.keyframe, plan_tasks(config, model.spec), config.budget_ms)
        self._config_applied = config
        self._operators.apply(model.engine)
        self._topics[taken.camera].pipeline.answer(model, config, taken.item)

    def _tell_failure(self, taken: Taken[Received], error: BaseException) -> None:
        self._topics[taken.camera].pipeline.fail(taken.item, error)

    def _log_failure(self, what: str, error: Exception) -> None:
        """One fatal line, which diagnostics repeat; rclpy would swallow the exception."""
        bundle = self._parameters_now.config.bundle
        text = str(error) if isinstance(error, DffError) else f'with bundle {bundle!r}: {error!r}'
        if memory.is_out_of_memory(error):
            text += f'; {memory.REMEDY}'
        self._failure = f'could not be {what}: {text}'
        self.get_logger().fatal(f'dff_node {self._failure}')

    def _lifecycle_state(self) -> str:
        return str(self._state_machine.current_state[1])  # rclpy has no public accessor

    def _set_enabled(self, is_enabled: bool) -> None:
        if not is_enabled:
            self._mailbox.refuse(DISABLED)
            return
        for topics in self._topics.values():
            topics.watch()
        self._mailbox.accept()

    def _reports(self) -> list[Report]:
        """Of the node, and of each camera that has topics."""
        state, config = self._lifecycle_state(), self._parameters_now.config
        quiet = state if state != 'active' else '' if self._operators.is_enabled else DISABLED
        num_namesakes = self._namesakes.look()
        info = self._model.engine.backend.info if self._model else None
        facts: dict[str, object] = {
            'state': state,
            'enabled': self._operators.is_enabled,
            'uptime_s': time.monotonic() - self._begin_s,
            'clock': 'simulated' if self.get_parameter('use_sim_time').value else 'system',
            'cameras': ','.join(filter(None, self._cameras)) or None,
            'qos_mismatches': sum(self._endpoints.mismatches.values()),
            'namesakes': num_namesakes,
            **diagnostics.model_values(self._model, config),
        }
        verdict = (Level.OK, quiet or state)
        if self._failure:
            verdict = (Level.ERROR, self._failure)
        elif num_namesakes:
            verdict = (Level.WARN, self._namesakes.describe(num_namesakes))
        elif info is not None and info.fallback:
            verdict = (Level.WARN, f'the CPU computes, as fallback is set: {info.fallback}')
        device = info.device if info else ''
        cameras = [topics.report(config, quiet) for topics in self._topics.values()]
        return [diagnostics.node_report(verdict, device, facts), *cameras]

    def _check_against_model(self, config: DffConfig) -> None:
        """ConfigError for a task or class that the loaded model lacks; before there is one, anything goes."""
        if self._model is not None:
            plan_tasks(config, self._model.spec)

    def _unsubscribe(self) -> None:
        for topics in self._topics.values():
            topics.unsubscribe()

    def _release(self) -> None:
        self._unsubscribe()
        if self._worker is not None:
            failure = self._worker.stop()
            self._worker = None
            if failure is not None:
                self.get_logger().error(f'the model did not close in order: {failure!r}')
        self._model = None
        for topics in self._topics.values():
            topics.destroy()
        self._topics = {}


def main(args: Sequence[str] | None = None) -> int:
    """Entry point `dff_node`: 0 after SIGINT or SIGTERM, 2 where model or parameters are wrong."""
    summary = 'Segmentation and detection of cameras by Deep Feature Flow, as a lifecycle node.'
    return process.run(DffNode, args, usage('dff_node', summary, (*NODE_PARAMETERS, *walk(DffConfig))))


if __name__ == '__main__':
    raise SystemExit(main())
