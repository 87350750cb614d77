# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The engine thread goes on whatever answering an item raises; its end is never silent."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from ros_helpers import fake_model, image_message, wait_until

from dff_ros.config import DffConfig
from dff_ros.mailbox import Mailbox
from dff_ros.pipeline import Pipeline
from dff_ros.ros.worker import EngineWorker

TIMEOUT_S = 10.0


def make_worker(mailbox, answer, on_error=lambda item, error: None, backend=None):
    open_model = fake_model(backend or FakeBackend())
    return EngineWorker(mailbox, lambda: open_model(DffConfig()), answer, on_error)


def clear(mailbox: Mailbox) -> None:
    """Mailbox.clear, failing where it blocks."""
    clearer = threading.Thread(target=mailbox.clear, args=('inactive',), daemon=True)
    clearer.start()
    clearer.join(TIMEOUT_S)
    assert not clearer.is_alive()


@pytest.mark.parametrize('failure', [ValueError('bad'), SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize('is_on_error_bad', [False, True])
def test_an_item_whose_answer_raises_is_settled_and_the_thread_goes_on(failure, is_on_error_bad, capfd):
    mailbox: Mailbox[int] = Mailbox()
    told: list[tuple[int, BaseException]] = []
    answered = threading.Event()

    def answer(model, taken):
        if taken.item == 1:
            raise failure
        mailbox.done()
        answered.set()

    def on_error(taken, error):
        told.append((taken.item, error))
        if is_on_error_bad:
            raise type(failure)('on_error fails')

    worker = make_worker(mailbox, answer, on_error)
    worker.start()
    mailbox.put(1)
    wait_until(lambda: told, 'the failure to be told')
    mailbox.put(2)
    assert answered.wait(TIMEOUT_S)
    clear(mailbox)
    assert worker.stop() is None
    assert told == [(1, failure)]
    counts = mailbox.counts()
    assert (counts.received, counts.processed, counts.pending) == (2, 1, 0)
    assert counts.dropped == {'internal_error': 1}
    assert ('Traceback' in capfd.readouterr().err) == is_on_error_bad


def test_an_answer_that_settles_nothing_is_a_failure_of_that_item():
    mailbox: Mailbox[int] = Mailbox()
    told: list[str] = []
    worker = make_worker(mailbox, lambda model, item: None, lambda item, error: told.append(str(error)))
    worker.start()
    mailbox.put(1)
    wait_until(lambda: told, 'the failure to be told')
    clear(mailbox)
    worker.stop()
    assert told == ['the answer neither finished nor dropped the item']
    assert mailbox.counts().dropped == {'internal_error': 1}


class UnclosableBackend(FakeBackend):
    def close(self) -> None:
        raise OSError('cannot close')


def test_an_error_on_closing_is_handed_back_by_stop():
    worker = make_worker(Mailbox(), lambda model, item: None, backend=UnclosableBackend())
    worker.start()
    assert str(worker.stop()) == 'cannot close'


def test_errors_on_warm_up_and_closing_do_not_block_the_start(monkeypatch):
    backend = UnclosableBackend()

    def fail(size):
        raise RuntimeError('no memory')

    monkeypatch.setattr(backend, 'warm_up', fail)
    with pytest.raises(OSError, match='cannot close') as raised:
        make_worker(Mailbox(), lambda model, item: None, backend=backend).start()
    assert str(raised.value.__context__) == 'no memory'


def test_a_model_that_ends_the_thread_while_opening_is_an_error_of_start():
    def open_model():
        raise SystemExit(3)

    worker = EngineWorker(Mailbox(), open_model, lambda model, item: None, lambda item, error: None)
    with pytest.raises(RuntimeError, match='SystemExit'):
        worker.start()
    assert worker.stop() is None


def test_the_node_deactivates_after_a_failure_that_its_report_did_not_survive(graph, monkeypatch):
    def fail(self, *args):
        raise SystemExit(1)

    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, '_step', fail)
        patch.setattr(Pipeline, 'fail', fail)
        peer.camera.publish(image_message(0))
        wait_until(lambda: node._mailbox.counts().num_dropped == 1, 'the image to be dropped')
    assert peer.ask(image_message(1))['dropped.internal_error'] == '1'
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert node._mailbox.counts().pending == 0
