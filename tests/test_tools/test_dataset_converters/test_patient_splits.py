"""Splits by patients."""

import json

import pytest

from tests.helpers.tools import load_tool

TOOL = load_tool('dataset_converters/patient_splits.py')


def sites(root, patients=10):
    for site in 'ab':
        (root / site / 'images').mkdir(parents=True)
        for patient in range(patients):
            for number in range(1 + patient % 3):
                (root / site / 'images' / f'P{patient}_{number}.png').touch()
    return root


def test_each_patient_is_on_one_side(tmp_path):
    sites(tmp_path)
    arguments = [
        str(tmp_path),
        '--patient',
        r'(P\d+)_',
        '--shares',
        'train=0.6',
        'val=0.2',
        'test=0.2',
    ]
    TOOL.main(arguments)
    found = json.loads((tmp_path / 'splits.json').read_text())
    for parts in found.values():
        patients = {part: {n.split('_')[0] for n in names} for part, names in parts.items()}
        assert [len(patients[part]) for part in ('train', 'val', 'test')] == [6, 2, 2]
        assert len(set.union(*patients.values())) == 10
        assert sum(len(names) for names in parts.values()) == sum(1 + p % 3 for p in range(10))
    TOOL.main(arguments)
    assert json.loads((tmp_path / 'splits.json').read_text()) == found


def test_small_parts_get_a_patient():
    patients = {str(i): [f'{i}_0'] for i in range(3)}
    found = TOOL.split(patients, dict(train=0.98, val=0.01, test=0.01), 0)
    assert all(len(names) == 1 for names in found.values())


@pytest.mark.parametrize(
    'options, message',
    [
        (['--patient', 'Q(.)'], 'must match P0_0'),
        (['--patient', r'P\d'], 'have a group'),
        (['--patient', r'(P\d+)_', '--shares', 'a=0'], 'positive'),
        (['--patient', r'(P\d+)_', '--images', 'none'], 'no site'),
        (['--patient', '('], 'unterminated'),
        (['--patient', '(P)'], 'fewer than the parts'),
    ],
)
def test_bad_input(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        TOOL.main([str(sites(tmp_path)), *options])
    assert message in capsys.readouterr().err
