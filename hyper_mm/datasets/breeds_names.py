"""Images with the names of their class and superclass in a BREEDS subset."""

from __future__ import annotations

from pathlib import Path

from hyper_mm.checks import check_choice
from hyper_mm.datasets.breeds import BreedsDataset, ancestors_at, node_names
from hyper_mm.registry import DATASETS

SUBSETS = {
    'entity13': (3, 20, None),
    'entity30': (4, 8, None),
    'living17': (5, 4, 'n00004258'),
    'nonliving26': (5, 4, 'n00021939'),
}
"""Depth of the superclasses, least leaf classes of one, and the node below which they lie."""


def superclasses(hierarchy_root: str | Path, subset: str, leaves: set[str]) -> dict[str, str]:
    """Superclass of every leaf class of a BREEDS subset.

    Args:
        hierarchy_root: Folder of the hierarchy, see :class:`BreedsDataset`.
        subset: A key of :data:`SUBSETS`.
        leaves: Ids of all leaf classes.

    Returns:
        Superclass by leaf class, of the superclasses with enough leaves.

    Raises:
        ValueError: If there is no such subset, or nothing of it in the hierarchy.
    """
    check_choice(SUBSETS, subset=subset)
    depth, least, ancestor = SUBSETS[subset]
    above = {
        leaf: node for leaf, node in ancestors_at(hierarchy_root, depth).items() if leaf in leaves
    }
    if ancestor is not None:
        inside = [ancestors_at(hierarchy_root, level) for level in range(1, depth)]
        above = {
            leaf: node
            for leaf, node in above.items()
            if any(level.get(leaf) == ancestor for level in inside)
        }
    members: dict[str, int] = {}
    for node in above.values():
        members[node] = members.get(node, 0) + 1
    found = {leaf: node for leaf, node in above.items() if members[node] >= least}
    if not found:
        raise ValueError(f'the hierarchy {hierarchy_root} has no superclass of subset={subset!r}')
    return found


@DATASETS.register_module()
class BreedsNamesDataset(BreedsDataset):
    """Images with two texts each, the names of superclass and class, for hierarchical retrieval.

    All leaf classes of the kept superclasses are used: the paper of radial embeddings names no
    choice, and BREEDS itself draws as many leaves of each superclass.

    Args:
        subset: ``'entity13'``, ``'entity30'``, ``'living17'`` or ``'nonliving26'``.
        template: Text made of a name ``{}``.
        **kwargs: ``data_root``, ``data_prefix``, ``hierarchy_root``, ``pipeline``, ... of
            :class:`BreedsDataset`.

    Raises:
        ValueError: For an unknown subset, or a template without ``{}``.

    Source: Santurkar et al., BREEDS: Benchmarks for Subpopulation Shift (ICLR 2021).
    """

    def __init__(self, subset: str = 'living17', template: str = 'a photo of a {}', **kwargs):
        check_choice(SUBSETS, subset=subset)
        if '{}' not in template:
            raise ValueError(f'template must have a place {{}} for the name, got {template!r}')
        self.subset = subset
        self.template = template
        kwargs = {'split': 'all', 'min_images': 2, 'test_mode': True, **kwargs}
        super().__init__(depth=SUBSETS[subset][0], **kwargs)

    def load_data_list(self) -> list[dict]:
        """Finds the images and their names.

        Returns:
            Items of :class:`BreedsDataset` with ``task`` and ``texts``, superclass and class.
        """
        items = super().load_data_list()
        above = superclasses(self.hierarchy_root, self.subset, {item['wnid'] for item in items})
        names = node_names(self.hierarchy_root)
        kept = [item for item in items if item['wnid'] in above]
        for item in kept:
            pair = (above[item['wnid']], item['wnid'])
            texts = [self.template.format(names.get(node, node)) for node in pair]
            item.update(task='names', texts=texts)
        return kept
