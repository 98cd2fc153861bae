"""The tool that writes PartScenes."""

from __future__ import annotations

import sys

import cv2
import pytest

from tests.helpers.tools import load_tool


class TestTool:
    def test_writes(self, repo, tmp_path, monkeypatch, capsys):
        out = str(tmp_path / 'out')
        counts = ['--num-train', '2', '--num-val', '1', '--size', '32', '48']
        monkeypatch.setattr(sys, 'argv', ['part_scenes.py', out, *counts, '--quiet'])
        load_tool('dataset_converters/part_scenes.py').main()
        assert 'ade: ' in capsys.readouterr().out
        image = cv2.imread(str(tmp_path / 'out/ade/images/training/train_000001.jpg'))
        assert image.shape == (32, 48, 3)

    def test_errors_are_messages(self, repo, tmp_path, monkeypatch, capsys):
        arguments = ['part_scenes.py', str(tmp_path), '--size', '8', '8']
        monkeypatch.setattr(sys, 'argv', arguments)
        with pytest.raises(SystemExit) as exit_info:
            load_tool('dataset_converters/part_scenes.py').main()
        assert exit_info.value.code == 2
        assert 'size[0] must be at least 32, got 8' in capsys.readouterr().err
