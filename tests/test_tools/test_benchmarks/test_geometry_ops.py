"""The comparison of ops with other libraries."""

from __future__ import annotations

import json

import pytest

from tests.helpers.tools import load_tool

pytest.importorskip('geoopt')
pytest.importorskip('hypll')


def test_every_peer_computes_the_same(tmp_path, capsys):
    """Coordinates, signs and factors are those of the peers: near the origin all agree."""
    tool, out = load_tool('benchmarks/geometry_ops.py'), tmp_path / 'report.json'
    words = ['--rows', '16', '--dim', '4', '--radius', '0.8', '--repeats', '1', '--out', str(out)]
    tool.main(words)
    report = json.loads(out.read_text())
    named = {name: set(peers) for name, (_, _, peers) in tool.cases().items() if peers}
    assert named == {name: set(words) for name, words in tool.NAMES.items()}
    assert capsys.readouterr().out.count('\n| `') == len(tool.cases())
    peers = {name.split()[-1] for name in report}
    assert peers == {'hyper_mm', 'geoopt', 'hypll', 'textbook'}
    for name, row in report.items():
        assert row['error'] < (1e-6 if name.endswith('hyper_mm') else 1e-3), name
        assert row['seconds'] > 0


def test_pixel_wise_classifiers():
    tool = load_tool('benchmarks/geometry_ops.py')
    found = tool.bench_pixels(repeats=1, size=8)
    assert found['nn.Linear']['ratio'] == 1
    fast, exact = found['LorentzMLR, max_radius=6'], found['LorentzMLR']
    assert found['nn.Linear']['mebibytes'] < fast['mebibytes'] < exact['mebibytes']
