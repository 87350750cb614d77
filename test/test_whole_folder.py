# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Folders that appear as a whole or not at all."""

from pathlib import Path

import pytest

from dff_ros.data.whole_folder import whole_folder
from dff_ros.errors import DataError


def test_a_folder_appears_when_the_block_is_done(tmp_path: Path):
    folder = tmp_path / 'deep' / 'set'
    with whole_folder(folder, 'write to') as temporary:
        (temporary / 'a').write_text('1')
        assert not folder.exists()
    assert (folder / 'a').read_text() == '1'
    assert list(folder.parent.iterdir()) == [folder]


def test_what_is_broken_off_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / 'set', 'write to') as temporary:
        (temporary / 'a').write_text('1')
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_shared_folder_of_another_process_stays(tmp_path: Path):
    with whole_folder(tmp_path / 'set', 'write to', is_shared=True):
        (tmp_path / 'set').mkdir()
        (tmp_path / 'set' / 'a').write_text('theirs')
    assert (tmp_path / 'set' / 'a').read_text() == 'theirs'
    with (
        pytest.raises(DataError, match='cannot write to .*set: .*not empty'),
        whole_folder(tmp_path / 'set', 'write to'),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ['set']


def test_a_disk_that_refuses_is_named(tmp_path: Path):
    (tmp_path / 'file').write_text('')
    with (
        pytest.raises(DataError, match=r'cannot write to .*file/set: .*Not a directory'),
        whole_folder(tmp_path / 'file/set', 'write to'),
    ):
        pass
