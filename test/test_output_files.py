# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a command may write is checked before it works."""

from __future__ import annotations

import pytest

from dff_ros.errors import ConfigError
from dff_ros.output_files import check_outputs


def test_two_flags_with_one_path_are_refused(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path)
    outputs = {'--out': tmp_path / 'a', '--plot': tmp_path / 'link' / 'a', '--card': None}
    with pytest.raises(ConfigError, match='--out and --plot name the same path'):
        check_outputs([], outputs, {})


def test_the_unfinished_file_overwrites_no_input_either(tmp_path):
    source = tmp_path / 'a.mp4.part'
    source.write_bytes(b'x')
    with pytest.raises(ConfigError, match=r'a\.mp4 would overwrite the input .*a\.mp4\.part'):
        check_outputs([source], {'--out': tmp_path / 'a.mp4'}, {})


def test_a_file_that_is_not_an_input_may_be_written_again(tmp_path):
    source, out = tmp_path / 'a.mp4', tmp_path / 'b.MP4'
    source.write_bytes(b'x')
    out.write_bytes(b'x')
    check_outputs([source, tmp_path / 'street'], {'--out': out}, {'--out': ('.mp4',)})


def test_an_existing_file_of_an_input_folder_is_refused_a_new_one_is_not(tmp_path):
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'sub' / 'list.json').write_text('{}')
    check_outputs([tmp_path], {'--out': tmp_path / 'sub' / 'new.json'}, {})
    with pytest.raises(ConfigError, match='exists inside the input folder'):
        check_outputs([tmp_path], {'--out': tmp_path / 'sub' / 'list.json'}, {})
