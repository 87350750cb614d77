# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Real nodes over real DDS: a context with its own domain, a peer that records messages."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from fake_backend import FakeBackend
from numpy.typing import NDArray
from rclpy.client import Client
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from dff_ros.config import DffConfig
from dff_ros.engine import Engine
from dff_ros.messages import stamp_to_ns
from dff_ros.model import Model
from dff_ros.model_spec import ModelSpec
from dff_ros.refresh import RefreshWorker
from dff_ros.ros import frame_status
from dff_ros.ros.conversions import diagnostic_values, fill_image, ns_to_stamp
from dff_ros.ros.node import DffNode
from dff_ros.ros.process import Spinning
from dff_ros.ros.publishers import Publishers
from dff_ros.tasks import SEGMENTATION, plan_tasks

TIMEOUT_S = 20.0
SPEC = ModelSpec(
    class_names=('road', 'car'), class_colours=((10, 20, 30), (200, 100, 0)), nominal_size=(32, 48)
)
BOX_SPEC = dataclasses.replace(SPEC, box_class_names=('car', 'pedestrian'))


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll a condition that no event announces (discovery); fails, naming it, after TIMEOUT_S."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f'timed out waiting for {what}')
        time.sleep(0.005)


def image_message(
    number: int, *, size: tuple[int, int] = (32, 48), stamp_ns: int | None = None, frame_id: str = 'camera'
) -> Image:
    """The frame of fake_backend.numbered_frame as a message."""
    ros_stamp = ns_to_stamp(stamp(number) if stamp_ns is None else stamp_ns)
    return fill_image(
        Image(), Header(stamp=ros_stamp, frame_id=frame_id), np.full((*size, 3), number, np.uint8)
    )


def camera_info_message(
    number: int, *, size: tuple[int, int] = (32, 48), stamp_ns: int | None = None, frame_id: str = 'camera'
) -> CameraInfo:
    """The calibration beside `image_message`: focal lengths 40 and 41, centre 23 and 15, baseline -4."""
    ros_stamp = ns_to_stamp(stamp(number) if stamp_ns is None else stamp_ns)
    message = CameraInfo(header=Header(stamp=ros_stamp, frame_id=frame_id), distortion_model='plumb_bob')
    message.height, message.width = size
    message.d = [-0.25, 0.125, 0.0, 0.0, 0.5]
    message.k = [40.0, 0.0, 23.0, 0.0, 41.0, 15.0, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [38.0, 0.0, 22.0, -4.0, 0.0, 39.0, 14.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


class GatedBackend(FakeBackend):
    """Blocks every extract and propagate until `gate` is set; `entered` tells that one began."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def _number(self, image_HW3: NDArray[np.uint8]) -> int:
        self.entered.release()
        if not self.gate.wait(TIMEOUT_S):
            raise RuntimeError('the test never opened the gate')
        return super()._number(image_HW3)


def fake_model(
    backend: FakeBackend, spec: ModelSpec = SPEC, refresh_backend: FakeBackend | None = None
) -> Callable[[DffConfig], Model]:
    """An `open_model` that gives this backend, and a worker with the other one if there is one."""

    def open_model(config: DffConfig) -> Model:
        worker = None if refresh_backend is None else RefreshWorker(lambda: refresh_backend)
        plan = plan_tasks(config, spec)
        engine = Engine(backend, config.keyframe, plan, worker=worker, budget_ms=config.budget_ms)
        return Model('fake', engine, spec)

    return open_model


class Peer(Node):
    """A camera and a consumer: publishes `image`, or `image/compressed`, and records what the node answers.
    `camera` is its name.
    """

    def __init__(
        self,
        context: Context,
        *,
        overlay: bool = False,
        namespace: str = '',
        camera: str = '',
        transport: str = 'raw',
    ) -> None:
        super().__init__('peer', context=context, namespace=f'{namespace}/{camera}'.strip('/'))
        self.camera_name = camera
        self.service_clients: dict[str, Client] = {}
        kind, topic = (Image, 'image') if transport == 'raw' else (CompressedImage, 'image/compressed')
        self.camera = self.create_publisher(kind, topic, 10)
        self.calibration = self.create_publisher(CameraInfo, 'camera_info', 10)
        self.news = threading.Condition()
        self.label_maps: list[Image] = []
        self.confidences: list[Image] = []
        self.camera_infos: list[CameraInfo] = []
        self.overlays: list[Image] = []
        self.box_arrays: list[Detection2DArray] = []
        self.statuses: list[DiagnosticArray] = []
        self.frame_statuses: list[object] = []
        self.label_infos: list[LabelInfo] = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(Image, 'dff/segmentation', self._record(self.label_maps), 100)
        self.create_subscription(Image, 'dff/confidence', self._record(self.confidences), 100)
        self.create_subscription(CameraInfo, 'dff/camera_info', self._record(self.camera_infos), 100)
        if frame_status.FrameStatus is not None:
            record = self._record(self.frame_statuses)
            self.create_subscription(frame_status.FrameStatus, 'dff/frame_status', record, 100)
        self.create_subscription(Detection2DArray, 'dff/detections', self._record(self.box_arrays), 100)
        self.create_subscription(DiagnosticArray, 'dff/status', self._record(self.statuses), 100)
        self.create_subscription(LabelInfo, 'dff/label_info', self._record(self.label_infos), latched)
        self.is_viewer = overlay
        if overlay:
            self.create_subscription(Image, 'dff/overlay', self._record(self.overlays), 100)

    def _record(self, messages: list) -> Callable[[object], None]:
        def store(message: object) -> None:
            with self.news:
                messages.append(message)
                self.news.notify_all()

        return store

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a message makes the condition true."""
        with self.news:
            assert self.news.wait_for(condition, TIMEOUT_S), f'timed out waiting for {what}'

    def facts(self) -> list[dict[str, str]]:
        """The values of every status so far."""
        with self.news:
            return [diagnostic_values(message) for message in self.statuses]

    def stamps(self) -> list[int]:
        """The stamps of the label maps so far."""
        with self.news:
            return [stamp_to_ns(message.header.stamp) for message in self.label_maps]

    def ask(self, message: Image | CompressedImage | bytes) -> dict[str, str]:
        """Send an image, or the bytes of one, and wait for its status (an answer or a drop); its values."""
        num_before = len(self.statuses)
        self.camera.publish(message)
        self.wait_for(lambda: len(self.statuses) > num_before, f'the status of image {num_before}')
        return diagnostic_values(self.statuses[num_before])

    def call(self, kind: type, name: str, **fields: object) -> object:
        """The response of a service, by its resolved name."""
        client = self.service_clients.get(name)
        if client is None:
            client = self.service_clients[name] = self.create_client(kind, name)
        assert client.wait_for_service(TIMEOUT_S), f'no service {name}'
        answered = threading.Event()
        future = client.call_async(kind.Request(**fields))
        future.add_done_callback(lambda done: answered.set())
        assert answered.wait(TIMEOUT_S), f'no response of {name}'
        return future.result()


class Graph:
    """A DffNode and its peers in one process and namespace, each with an executor thread."""

    def __init__(self, namespace: str = '') -> None:
        self.namespace = namespace
        self.context = Context()
        rclpy.init(context=self.context, domain_id=int(os.environ['ROS_DOMAIN_ID']))
        self._running: list[tuple[Node, Spinning]] = []
        self._peers: list[Peer] = []
        self.exit_codes: list[int] = []

    def spin(self, node: Node) -> None:
        """Spin a node on a thread of its own until the graph ends."""
        spinning = Spinning(node, context=self.context)
        spinning.start()
        self._running.append((node, spinning))

    def start_node(
        self,
        backend: FakeBackend,
        spec: ModelSpec = SPEC,
        refresh_backend: FakeBackend | None = None,
        remaps: Sequence[str] = (),
        **parameters: object,
    ) -> DffNode:
        """A started DffNode on fake backends and a model; parameters with `__` for the dot."""
        overrides = [Parameter(name.replace('__', '.'), value=value) for name, value in parameters.items()]
        node = DffNode(
            open_model=fake_model(backend, spec, refresh_backend),
            context=self.context,
            namespace=self.namespace,
            parameter_overrides=overrides,
            cli_args=['--ros-args', *(word for rule in remaps for word in ('-r', rule))],
        )
        node.start(self.exit_codes.append)
        self.spin(node)
        return node

    def start_peer(self, *, overlay: bool = False, camera: str = '', transport: str = 'raw') -> Peer:
        """A peer that has found the node in both directions."""
        peer = Peer(
            self.context, overlay=overlay, namespace=self.namespace, camera=camera, transport=transport
        )
        self.spin(peer)
        self._peers.append(peer)
        for publisher in (peer.camera, peer.calibration):
            wait_until(lambda p=publisher: p.get_subscription_count(), 'the node to subscribe')
        wait_until(lambda: self._are_outputs_matched(camera), 'the outputs to match')
        if SEGMENTATION in self._outputs(camera)._spec.tasks:
            peer.wait_for(lambda: peer.label_infos, 'label_info')
        return peer

    def _outputs(self, camera: str) -> Publishers:
        (node,) = (node for node, *_ in self._running if isinstance(node, DffNode))
        return node._topics[camera].publishers

    def _are_outputs_matched(self, camera: str) -> bool:
        """Whether every output of a camera has all its readers: what the node publishes now reaches them."""
        peers = [peer for peer in self._peers if peer.camera_name == camera]
        num_viewers = sum(peer.is_viewer for peer in peers)
        return all(
            publisher.get_subscription_count() >= (num_viewers if topic == 'dff/overlay' else len(peers))
            for topic, publisher in self._outputs(camera)._advertised.items()
        )

    def stop(self, node: Node) -> None:
        """Stop one node."""
        (one,) = (pair for pair in self._running if pair[0] is node)
        self._running.remove(one)
        one[1].end()
        node.destroy_node()

    def close(self) -> None:
        """Stop everything."""
        for node, spinning in reversed(self._running):
            spinning.end()
            node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def stamp(number: int) -> int:
    """The stamp of `image_message(number)` by default, in nanoseconds."""
    return 1_000_000_000 + number * 100_000_000


@contextmanager
def ros_graph(namespace: str = '') -> Iterator[Graph]:
    """A graph that is always closed."""
    graph = Graph(namespace)
    try:
        yield graph
    finally:
        graph.close()
