# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A camera from the simulated street, a video, a folder of images or a CamVid split: publishes `image`.

With `rate` above 0 it is a live camera: that many frames a second, stamped when they are published. With
`rate` 0 it goes in lock-step: it sends a frame, waits until `dff/status` tells what became of it, and sends
the next; stamps are the source's own, from STAMP_ORIGIN_NS on, so that a run can be repeated exactly.

`dff_camera/status` names the frame of every image, with the image's header: index, name, published, state;
after the last one, `error` says why it ended early, if it did.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.config import Validated, param, replace, walk
from dff_ros.errors import DffError
from dff_ros.messages import stamp_to_ns
from dff_ros.ros import process, qos
from dff_ros.ros.conversions import fill_image, ns_to_stamp, to_diagnostics
from dff_ros.ros.parameters import declare
from dff_ros.sources import SourceFrame, open_source

STAMP_ORIGIN_NS = 1_000_000_000
"""Lock-step stamp of a source's time 0; a stamp of 0 would mean that the camera gives none."""

PUBLISHED, FINISHED = 'published', 'finished'
"""Values of `state`: of each image, and after the last one."""

_RESEND_S = 10.0
_MAX_SENDS = 3
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class CameraConfig(Validated):
    """What the camera shows, and how fast."""

    source: str = param('street', 'street, a video file, a folder of images, a CamVid folder or /dev/videoN')
    split: str = param('val', 'Split of a CamVid folder')
    seed: int = param(0, 'Seed of the street', minimum=0, maximum=2**31 - 1)
    rate: float = param(
        30.0, 'Images per second; 0 waits for the answer to each', minimum=0.0, maximum=1000.0, unit='Hz'
    )
    num_frames: int = param(
        0, 'Ends after so many images; 0: at the end of the source', minimum=0, maximum=2**31 - 1
    )
    duration_s: float = param(
        0.0, 'Ends after this time; 0: at the end of the source', minimum=0.0, maximum=1e6, unit='s'
    )
    loop: bool = param(False, 'Begins again at the end of the source; the stamps go on')
    frame_id: str = param('camera', 'Frame of the image headers')
    min_subscribers: int = param(
        1, 'Waits for so many subscribers before the first image', minimum=0, maximum=100
    )


class CameraNode(Node):
    """Publishes a source on its own thread; DffError where the parameters or the source are wrong."""

    def __init__(self, **options: Any) -> None:
        super().__init__('dff_camera', **options)
        self._config = replace(CameraConfig(), declare(self, walk(CameraConfig)))
        config = self._config
        self._source = open_source(
            config.source, split=config.split, seed=config.seed, fps=_source_fps(config)
        )
        self._image = self.create_publisher(
            Image, 'image', qos.image_output(), qos_overriding_options=qos.overridable()
        )
        self._status = self.create_publisher(DiagnosticArray, 'dff_camera/status', qos.history_output())
        self._message = Image()
        self._num_published = 0
        self._stop = threading.Event()
        self._answers = threading.Condition()
        self._answered_ns = -1
        self._finish: Callable[[int], None] = lambda code: None
        self._thread = threading.Thread(target=self._run, name='camera', daemon=True)
        if self._is_lock_step:
            self.create_subscription(DiagnosticArray, 'dff/status', self._on_answer, qos.status_output())

    @property
    def _is_lock_step(self) -> bool:
        return self._config.rate == 0.0

    def start(self, finish: Callable[[int], None]) -> None:
        """Begin to publish; `finish(0)` after the last image, `finish(1)` where source or node fails."""
        self._finish = finish
        self._thread.start()

    def destroy_node(self) -> None:
        """End the thread, then destroy the node."""
        self._stop.set()
        with self._answers:
            self._answers.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        super().destroy_node()

    def _run(self) -> None:
        failure = ''
        try:
            if self._wait_for_subscribers():
                self._play()
        except DffError as error:
            failure = str(error)
            self.get_logger().fatal(failure)
        except Exception as error:
            failure = f'the camera failed: {error!r}'
            self.get_logger().fatal(traceback.format_exc())
        try:
            self._tell(Header(frame_id=self._config.frame_id), FINISHED, {'error': failure})
            self._status.wait_for_all_acked(Duration(seconds=2))
            self.get_logger().info(f'{self._source.name}: {self._num_published} images published')
        finally:
            self._finish(process.EXIT_FAILURE if failure else process.EXIT_OK)

    def _wait_for_subscribers(self) -> bool:
        """Whether they came before the end."""
        while not self._stop.wait(_POLL_S):  # ROS has no event for a matched graph
            is_followed = self._image.get_subscription_count() >= self._config.min_subscribers
            if is_followed and (not self._is_lock_step or self.count_publishers('dff/status')):
                return True
        return False

    def _play(self) -> None:
        start_s = due_s = time.monotonic()
        for index, stamp_ns, frame in self._frames():
            if self._config.duration_s and time.monotonic() - start_s >= self._config.duration_s:
                return
            if self._is_lock_step:
                self._send_and_wait(index, STAMP_ORIGIN_NS + stamp_ns, frame)
            else:
                self._stop.wait(max(0.0, due_s - time.monotonic()))
                due_s = max(due_s, time.monotonic() - 1.0 / self._config.rate) + 1.0 / self._config.rate
                self._send(index, self.get_clock().now().nanoseconds, frame)
            if self._stop.is_set():
                return

    def _frames(self) -> Iterator[tuple[int, int, SourceFrame]]:
        """(index, stamp, frame); a loop continues index and stamps."""
        index, offset_ns, stamp_ns = 0, 0, 0
        while True:
            for frame in self._source:
                if self._config.num_frames and index >= self._config.num_frames:
                    return
                stamp_ns = offset_ns + frame.stamp_ns
                yield index, stamp_ns, frame
                index += 1
            if not self._config.loop or not index:
                return
            offset_ns = stamp_ns + round(1e9 / self._source.fps)

    def _send(self, index: int, stamp_ns: int, frame: SourceFrame) -> None:
        header = Header(stamp=ns_to_stamp(stamp_ns), frame_id=self._config.frame_id)
        self._image.publish(fill_image(self._message, header, frame.image_HW3))
        self._num_published += 1
        self._tell(header, PUBLISHED, {'index': index, 'name': frame.name})

    def _tell(self, header: Header, state: str, facts: dict[str, object]) -> None:
        facts = {'state': state, 'published': self._num_published} | facts
        self._status.publish(to_diagnostics(header, 'dff_camera', state, False, facts))

    def _send_and_wait(self, index: int, stamp_ns: int, frame: SourceFrame) -> None:
        """Raises DffError where the node gives no answer; an image lost on the way to it is sent again."""
        for _ in range(_MAX_SENDS):
            self._send(index, stamp_ns, frame)
            with self._answers:
                if self._answers.wait_for(
                    lambda: self._answered_ns == stamp_ns or self._stop.is_set(), _RESEND_S
                ):
                    return
            self.get_logger().warning(
                f'no answer to image {index} ({frame.name}) in {_RESEND_S:g} s: sending it again'
            )
        raise DffError(f'dff_node did not answer image {index} ({frame.name}); is it running and active?')

    def _on_answer(self, message: DiagnosticArray) -> None:
        with self._answers:
            self._answered_ns = stamp_to_ns(message.header.stamp)
            self._answers.notify_all()


def _source_fps(config: CameraConfig) -> float | None:
    """The camera's rate for sources that take one: so the street moves in real time."""
    is_free = config.source == 'street' or config.source.startswith('/dev/video')
    return config.rate if config.rate and is_free else None


def main(args: Sequence[str] | None = None) -> int:
    """Entry point `dff_camera`: 0 at the source's end or after a signal, 2 on a wrong source or parameter."""
    return process.run(CameraNode, args)


if __name__ == '__main__':
    raise SystemExit(main())
