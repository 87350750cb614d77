"""The lifecycle node: image in; label map, class names, boxes, overlay and status out.

Topics, relative to the node's namespace: `image`; `dff/segmentation`, `dff/label_info`, `dff/detections`,
`dff/overlay`, `dff/status`.
The executor's callbacks only store; one engine thread converts, computes and publishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.event_handler import QoSMessageLostInfo, SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from dff_ros.config import DffConfig, Parameter, walk
from dff_ros.errors import DffError
from dff_ros.model_spec import ModelSpec
from dff_ros.ros import process, qos
from dff_ros.ros.mailbox import Mailbox
from dff_ros.ros.parameters import (
    AUTOSTART,
    RuntimeParameters,
    check_values,
    declare,
    declare_unchecked,
    read_config,
    unknown_overrides,
    usage,
)
from dff_ros.ros.pipeline import Pipeline, Received
from dff_ros.ros.publishers import Publishers
from dff_ros.ros.worker import EngineWorker, Model, open_model
from dff_ros.tasks import plan_tasks

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class DffNode(LifecycleNode):
    """Deep Feature Flow on one camera.

    configure loads and warms up the model and makes the publishers; activate subscribes; deactivate
    unsubscribes and keeps the model; cleanup frees it. A failed configure says why and leaves a node that can
    be configured again. `open_model` turns the config into the model to run. Raises ConfigError on bad
    parameters.
    """

    def __init__(self, *, open_model: Callable[[DffConfig], Model] = open_model, **options: Any) -> None:
        super().__init__('dff_node', **options)
        self._open_model = open_model
        self._worker: EngineWorker[Received] | None = None
        self._spec: ModelSpec | None = None
        self._publishers_out: Publishers | None = None
        self._pipeline: Pipeline | None = None
        self._subscription: Subscription | None = None
        self._mailbox: Mailbox[Received] = Mailbox()
        self._wants_autostart = bool(declare(self, [AUTOSTART])[AUTOSTART.name])
        self._qos_parameters = self._list_qos_parameters()
        declare_unchecked(self, self._qos_parameters)
        self._parameters_now = RuntimeParameters(
            self,
            read_config(self),
            self._reconfigure,
            is_unconfigured=lambda: self._worker is None,
            check=self._check_against_model,
            others=self._qos_parameters,
        )

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
            return FAILURE
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera."""
        try:
            self._subscription = self._subscribe(SubscriptionEventCallbacks(message_lost=self._count_lost))
        except Exception as error:
            self._log_failure('activated', error)
            return FAILURE
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the frame in hand, keep the model."""
        self._unsubscribe()
        self._mailbox.clear('inactive')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from any state."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that the node can be configured again."""
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        """Join the engine thread, then destroy the node."""
        self._release()
        super().destroy_node()

    def _list_qos_parameters(self) -> list[Parameter]:
        found = qos.override_parameters(self, 'subscription', 'image', qos.newest_image())
        for topic, profile in Publishers.PROFILES.items():
            found += qos.override_parameters(self, 'publisher', topic, profile())
        return found

    def _configure(self, config: DffConfig) -> None:
        check_values(self, self._qos_parameters)
        self._mailbox = Mailbox()
        publishers = self._publishers_out = Publishers(self)
        pipeline = self._pipeline = Pipeline(config, self._mailbox, publishers, self.get_logger())
        self._worker = EngineWorker(
            self._mailbox, lambda: self._open_model(config), pipeline.answer, pipeline.fail
        )
        model = self._worker.start()
        self._spec = model.spec
        publishers.open_tasks(model.spec, self.get_clock().now().to_msg())
        self._log_start(model, config, publishers.topics)

    def _log_failure(self, what: str, error: Exception) -> None:
        """One fatal line; rclpy would swallow the exception."""
        bundle = self._parameters_now.config.bundle
        text = str(error) if isinstance(error, DffError) else f'with bundle {bundle!r}: {error!r}'
        self.get_logger().fatal(f'dff_node could not be {what}: {text}')

    def _subscribe(self, events: SubscriptionEventCallbacks) -> Subscription:
        try:
            return self.create_subscription(
                Image,
                'image',
                self._store,
                qos.newest_image(),
                event_callbacks=events,
                qos_overriding_options=qos.overridable(),
            )
        except UnsupportedEventTypeError:  # this middleware does not tell of lost messages
            return self._subscribe(SubscriptionEventCallbacks())

    def _store(self, message: Image) -> None:
        self._mailbox.put(Received(message, time.perf_counter_ns()))

    def _count_lost(self, event: QoSMessageLostInfo) -> None:
        if self._pipeline is not None:
            self._pipeline.count_lost(event.total_count_change)

    def _check_against_model(self, config: DffConfig) -> None:
        """ConfigError for a task or class that the loaded model lacks; before there is one, anything goes."""
        if self._spec is not None:
            plan_tasks(config, self._spec)

    def _reconfigure(self, config: DffConfig) -> None:
        if self._pipeline is not None:
            self._pipeline.config = config

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None

    def _release(self) -> None:
        self._unsubscribe()
        if self._worker is not None:
            failure = self._worker.stop()
            self._worker = None
            if failure is not None:
                self.get_logger().error(f'the model did not close in order: {failure!r}')
        self._spec = None
        self._pipeline = None
        if self._publishers_out is not None:
            self._publishers_out.destroy()
            self._publishers_out = None

    def _log_start(self, model: Model, config: DffConfig, outputs: Sequence[str]) -> None:
        info = model.engine.backend.info
        flow = model.spec.flow_in_use(config.flow)
        topics = ', '.join(self.resolve_topic_name(name) for name in ('image', *outputs))
        self.get_logger().info(
            f'bundle {model.name}, {info.name} ({info.runtime}) on {info.device}, '
            f'{info.num_threads} threads: {info.choice}; flow {flow}; '
            f'key frame every {config.keyframe.interval} frames; '
            f'tasks {", ".join(plan_tasks(config, model.spec).tasks)}; topics {topics}'
        )


def main(args: Sequence[str] | None = None) -> int:
    """Entry point `dff_node`: 0 after SIGINT or SIGTERM, 2 where model or parameters are wrong."""
    summary = 'Segmentation and detection of a camera by Deep Feature Flow, as a lifecycle node.'
    return process.run(DffNode, args, usage('dff_node', summary, (AUTOSTART, *walk(DffConfig))))


if __name__ == '__main__':
    raise SystemExit(main())
