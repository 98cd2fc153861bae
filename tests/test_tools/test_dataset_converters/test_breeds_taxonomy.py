"""Label trees of ImageNet folders."""

from __future__ import annotations

from hyper_mm.layers.taxonomy import Taxonomy
from tests.helpers.tools import load_tool

EDGES = 'n0 n1\nn0 n2\nn1 n3\nn3 n11\nn3 n12\nn2 n13\nn1 n14\n'
NAMES = 'n0\troot\nn1\tanimal, beast\nn2\tdummy1\nn3\tdog\n'


def test_writes_the_tree_of_a_folder(tmp_path, capsys):
    (tmp_path / 'class_hierarchy.txt').write_text(EDGES)
    (tmp_path / 'node_names.txt').write_text(NAMES)
    for name in ('n11', 'n12', 'n13', 'n14', 'n99'):
        (tmp_path / 'images' / name).mkdir(parents=True)
    out = tmp_path / 'tree.csv'
    tool = load_tool('dataset_converters/breeds_taxonomy.py')
    tool.main([str(tmp_path), str(tmp_path / 'images'), '--depths', '1', '2', '-o', str(out)])
    assert '5 classes, 7 nodes' in capsys.readouterr().out
    tree = Taxonomy.load(out)
    assert tree.classes == ('n11', 'n12', 'n13', 'n14', 'n99')
    assert [[tree.names[n] for n in tree.path(k)[1:]] for k in range(5)] == [
        ['dog', 'animal'],
        ['dog', 'animal'],
        [],
        ['animal'],
        [],
    ]
