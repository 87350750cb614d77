# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The engine over one recording: every image is answered as the node would, into a new recording."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from dff_ros.bag_input import Bag, Camera, Messages, Recorded, read
from dff_ros.bag_job import BagJob, BagOptions, Progress, Tell, run_settings
from dff_ros.bag_journal import JournalBackend
from dff_ros.bag_messages import CAMERA_INFO, typestore
from dff_ros.bag_metadata import differences, finished_settings
from dff_ros.bag_outlet import BagOutlet, copied_topic, output_names, output_topic
from dff_ros.bag_parts import Parts, Topic
from dff_ros.config import DffConfig
from dff_ros.errors import ConfigError, DffError
from dff_ros.mailbox import Mailbox
from dff_ros.model import Model, open_model
from dff_ros.pipeline import INTERNAL_ERROR, Pipeline, Received

UNREADABLE = 'unreadable'
"""Drop reason of an image message whose bytes are not one."""


def answer_bag(
    job: BagJob,
    tell: Tell = lambda told: None,
    open_model: Callable[[DffConfig], Model] = open_model,
    *,
    keep_finished: bool = False,
) -> dict[str, object]:
    """Answer a recording, or go on where an earlier run was ended; the summary.

    `keep_finished`: an output that was finished by the same settings is no error.

    Raises DffErrors that name recording or output and the remedy; what is finished stays for the next run.
    """
    with Bag(job.source) as bag:
        cameras = bag.cameras(job.options.topics)
        before = finished_settings(job.out) if keep_finished else None
        if job.out.exists() and not job.options.overwrite and before is None:
            raise ConfigError(f'--out {job.out} exists: choose another name, or give --overwrite')
        model = open_model(job.config)
        try:
            names = output_names(
                model.spec, overlay=job.options.overlay, confidence=job.config.segmentation.confidence
            )
            topics = _topics(bag, cameras, names, job.options)
            settings = run_settings(job, bag, cameras, model)
            if before is not None and not job.options.overwrite:
                return _finished_before(job, before, settings)
            storage = job.options.storage or bag.storage
            with Parts(job.out, settings, storage, overwrite=job.options.overwrite) as parts:
                return _Run(job, bag, cameras, model, parts, topics, tell).summary()
        finally:
            model.engine.close()


def _finished_before(job: BagJob, before: dict[str, object], now: dict[str, object]) -> dict[str, object]:
    different = differences(before, now)
    if different:
        raise ConfigError(
            f'{job.out} was made by other settings: {"; ".join(different)}; choose another --out, or give '
            '--overwrite'
        )
    return {'bag': str(job.source), 'out': str(job.out), 'finished_before': True}


def _topics(bag: Bag, cameras: list[Camera], names: list[str], options: BagOptions) -> dict[str, Topic]:
    """The connections of the new recording by key: `in N` of the input, else the topic of an output."""
    made = [output_topic(camera.name, name) for camera in cameras for name in names]
    found = {topic.name: topic for topic in made}
    if options.outputs_only:
        return found
    there = sorted({connection.topic for connection in bag.connections} & set(found))
    if there:
        raise ConfigError(
            f'{bag.path} has {", ".join(there)} already: leave the messages of the input out (--outputs-only)'
        )
    copies = {f'in {number}': copied_topic(item) for number, item in enumerate(bag.connections)}
    return {**copies, **found}


class _Run:
    """One pass over a recording; `summary` makes it."""

    def __init__(
        self,
        job: BagJob,
        bag: Bag,
        cameras: list[Camera],
        model: Model,
        parts: Parts,
        topics: Mapping[str, Topic],
        tell: Tell,
    ) -> None:
        self._job = job
        self._bag = bag
        self._parts = parts
        self._tell = tell
        self._is_repeatable = job.config.refresh == 'inline' and not job.config.budget_ms
        if parts.number and not self._is_repeatable:
            tell('with refresh worker or budget_ms answers depend on the time they take: begun anew')
            parts.forget()
        self._past = parts.past()
        self._journal = JournalBackend(model.engine.backend, self._past.entries)
        model.engine.backend = self._journal
        self._model = model
        self._cameras = {camera.topic: camera for camera in cameras}
        self._infos: dict[str, list[Pipeline]] = {camera.info_topic: [] for camera in cameras}
        self._mailbox: Mailbox[Received] = Mailbox()
        self._outlets: dict[str, BagOutlet] = {}
        self._pipelines: dict[str, Pipeline] = {}
        for camera in cameras:
            outlet = BagOutlet(camera.name, model.spec, overlay=job.options.overlay)
            self._outlets[camera.name] = outlet
            # The recording's clock is that of the machine which received the images.
            pipeline = Pipeline(camera.name, self._mailbox, outlet, self, lambda: self._now_ns)
            self._pipelines[camera.name] = pipeline
            self._infos[camera.info_topic].append(pipeline)
        model.engine.spread([camera.name for camera in cameras])
        self._topics = list(topics.values())
        self._index = {key: number for number, key in enumerate(topics)}
        self._write: Callable[[int, int, bytes | memoryview], None] | None = None
        self._now_ns = 0
        self._num_taken = 0
        self._num_committed = self._past.num_taken
        self._frames_in_part = 0
        self._num_computed = 0

    def warning(self, text: str) -> None:
        """As a Logger: tell it, but not again what was told before the run was ended."""
        if self._write is not None:
            self._tell(f'{self._job.source}: {text}')

    def summary(self) -> dict[str, object]:
        """Answer all messages, finish the output, and tell what was done."""
        start_s = time.perf_counter()
        messages = self._bag.messages()
        self._go_on_if_replayed()
        for message in messages:
            self._take(messages, message)
            self._num_taken += 1
            self._tell(Progress(self._num_taken, max(self._bag.num_messages, self._num_taken)))
            self._go_on_if_replayed()
            if self._write is not None and self._frames_in_part >= self._job.options.part_frames:
                self._commit()
                self._open()
        if self._num_taken < self._past.num_taken:
            raise self._unfit('the recording is shorter than it was')
        if self._num_taken > self._num_committed or not self._parts.number:
            self._commit()
        self._parts.finish()
        return self._told(time.perf_counter() - start_s)

    def _go_on_if_replayed(self) -> None:
        """From here on messages are written: all that the finished parts hold were taken."""
        if self._write is not None or self._num_taken < self._past.num_taken:
            return
        if self._journal.is_replaying or self._journal.misfit:
            raise self._unfit(self._journal.misfit or 'more was computed before')
        self._frames_in_part = self._num_computed = 0
        self._open()

    def _unfit(self, text: str) -> DffError:
        return DffError(
            f'{self._parts.folder} does not fit this recording ({text}): begin anew with --overwrite'
        )

    def _open(self) -> None:
        write = self._write = self._parts.open(self._topics)
        for camera, outlet in self._outlets.items():
            outlet.write = self._writer_of(camera, write)

    def _writer_of(
        self, camera: str, write: Callable[[int, int, bytes | memoryview], None]
    ) -> Callable[[str, Any], None]:
        prefix = f'/{camera}/' if camera else '/'

        def put(name: str, message: Any) -> None:
            content = typestore().serialize_cdr(message, message.__msgtype__)
            write(self._index[prefix + name], self._now_ns, content)

        return put

    def _commit(self) -> None:
        self._parts.commit(self._num_taken, self._journal.take_entries())
        self._num_committed = self._num_taken
        self._frames_in_part = 0

    def _take(self, messages: Messages, message: Recorded) -> None:
        """Copy a message, and answer it if it is an image."""
        self._now_ns = message.time_ns
        if self._num_taken == 0:
            for outlet in self._outlets.values():
                outlet.label_info(message.time_ns)
        if self._write is not None and not self._job.options.outputs_only:
            self._write(self._index[f'in {message.connection}'], message.time_ns, message.data)
        for pipeline in self._infos.get(message.topic, []):
            info = read(message) if message.kind == CAMERA_INFO else None
            if info is not None:
                pipeline.camera_infos.store(info)
        camera = self._cameras.get(message.topic)
        if camera is not None:
            self._answer(messages, message, camera)
            self._frames_in_part += 1
            self._num_computed += 1

    def _answer(self, messages: Messages, message: Recorded, camera: Camera) -> None:
        content = read(message)
        pipeline = self._pipelines[camera.name]
        item = Received(content, time.perf_counter_ns(), message.time_ns)
        self._mailbox.put(item, camera.name)
        self._mailbox.take()
        if content is None:
            self._mailbox.drop(UNREADABLE, camera.name)
            self.warning(f'message {self._num_taken + 1} on {message.topic} cannot be read: left out')
            return
        kept = pipeline.camera_infos.at(content.header.stamp)
        if kept is None or kept.header.stamp != content.header.stamp:
            info = messages.info_ahead(message, camera.info_topic, content.header.stamp)
            if info is not None:
                pipeline.camera_infos.store(info)
        try:
            pipeline.answer(self._model, self._job.config, item)
        except DffError:  # of what is written: the run ends
            raise
        except Exception as error:  # as in the node: one image is lost
            if self._mailbox.is_item_in_hand:
                self._mailbox.drop(INTERNAL_ERROR, camera.name)
            pipeline.fail(item, error)

    def _told(self, elapsed_s: float) -> dict[str, object]:
        counts = self._mailbox.counts()
        return {
            'bag': str(self._job.source),
            'out': str(self._job.out),
            'messages': self._num_taken,
            'images': counts.received,
            'answered': counts.processed,
            'dropped': dict(counts.dropped),
            'key_frames': sum(outlet.num_keys for outlet in self._outlets.values()),
            'fps': round(self._num_computed / elapsed_s, 2) if elapsed_s else None,
            'elapsed_s': round(elapsed_s, 2),
            'resumed_at': self._past.num_taken or None,
            'cameras': {camera.name or camera.topic: camera.topic for camera in self._cameras.values()},
        }
