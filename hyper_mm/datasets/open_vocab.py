"""The benchmarks of open-vocabulary segmentation.

Class names are those of the vocabulary of the same name (:mod:`hyper_mm.datasets.vocabulary`);
``tools/dataset_converters/open_vocab.py`` writes the files.
"""

from __future__ import annotations

from collections.abc import Sequence

from hyper_mm.registry import DATASETS

from .ade_layout import AdeLayoutDataset
from .vocabulary import Vocabulary

EIGHT_BIT = 255
"""Classes that mmseg's loader of 8-bit label maps can tell apart, and its ignored label."""


class OpenVocabDataset(AdeLayoutDataset):
    """Base: classes ``0 .. N - 1`` on disk, and one label that is ignored.

    Classes that ``metainfo`` leaves out get the ignored label.

    Args:
        img_suffix: Suffix of the images.
        seg_map_suffix: Suffix of the label maps.
        ignore_index: Label that is ignored, on disk too.
        **kwargs: Passed to ``mmseg.datasets.BaseSegDataset``.

    Raises:
        FileNotFoundError: If there is no folder of images.
        ValueError: If there are more classes than 8-bit label maps hold, and the pipeline loads
            them as such.
    """

    SOURCE = 'docs/open_vocabulary.md describes how to prepare it.'

    def __init__(
        self,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        ignore_index: int = 255,
        **kwargs,
    ):
        count = len(self.METAINFO['classes'])
        loaders = [t.get('type') for t in kwargs.get('pipeline', ()) if isinstance(t, dict)]
        if count > EIGHT_BIT and {'LoadAnnotations', 'mmseg.LoadAnnotations'} & {*loaders}:
            raise ValueError(
                f"{type(self).__name__}: {count} classes do not fit mmseg's LoadAnnotations, which "
                "casts to 8 bits; use type='hyper_mm.LoadSegAnnotations16' in the pipeline"
            )
        super().__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            ignore_index=ignore_index,
            reduce_zero_label=False,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Lists the images; see :class:`mmseg.datasets.BaseSegDataset`."""
        names, kept = list(self.METAINFO['classes']), list(self._metainfo['classes'])
        if kept != names:  # mmseg's own map has 255 for what is left out
            self.label_map = {
                old: kept.index(name) if name in kept else self.ignore_index
                for old, name in enumerate(names)
            }
            self._metainfo['label_map'] = self.label_map
        return super().load_data_list()


def metainfo(vocabulary: str | Sequence[str] | dict) -> dict:
    """Class names and palette of a vocabulary."""
    loaded = Vocabulary.load(vocabulary)
    return dict(classes=loaded.names, palette=loaded.palette)


@DATASETS.register_module()
class ADE20KFull847Dataset(OpenVocabDataset):
    """A-847: the 847 most frequent classes of ADE20K 2021, in 16-bit label maps.

    Args:
        seg_map_suffix: Suffix of the label maps.
        ignore_index: Label of everything else.
        **kwargs: See :class:`OpenVocabDataset`.
    """

    METAINFO = metainfo('ade847')

    def __init__(self, seg_map_suffix: str = '.tif', ignore_index: int = 65535, **kwargs):
        super().__init__(seg_map_suffix=seg_map_suffix, ignore_index=ignore_index, **kwargs)


@DATASETS.register_module()
class PascalContext459Dataset(OpenVocabDataset):
    """PC-459: all classes of Pascal Context, in 16-bit label maps.

    Args:
        seg_map_suffix: Suffix of the label maps.
        ignore_index: Label of pixels without a class.
        **kwargs: See :class:`OpenVocabDataset`.
    """

    METAINFO = metainfo('pc459')

    def __init__(self, seg_map_suffix: str = '.tif', ignore_index: int = 459, **kwargs):
        super().__init__(seg_map_suffix=seg_map_suffix, ignore_index=ignore_index, **kwargs)


@DATASETS.register_module()
class PascalContext59Dataset(OpenVocabDataset):
    """PC-59: the 59 frequent classes of Pascal Context.

    mmseg has them as ``PascalContextDataset59``, with ``table`` where the benchmark asks for
    ``diningtable``, and with labels that start at 1.
    """

    METAINFO = metainfo('pc59')


@DATASETS.register_module()
class PascalVOC20Dataset(OpenVocabDataset):
    """PAS-20: the 20 classes of Pascal VOC 2012; background is ignored."""

    METAINFO = metainfo('voc20')


@DATASETS.register_module()
class PascalVOC20bDataset(OpenVocabDataset):
    """PAS-20b: the 20 classes of Pascal VOC 2012 and background as a class of its own.

    A model is asked for the 59 names of the vocabulary ``'voc20b'``; whatever is not one of the 20
    counts as background: ``hyper_mm.OVIoUMetric`` with ``collapse=20``.
    """

    METAINFO = dict(
        classes=(*metainfo('voc20')['classes'], 'background'),
        palette=[*metainfo('voc20')['palette'], [0, 0, 0]],
    )


@DATASETS.register_module()
class VocabularySegDataset(OpenVocabDataset):
    """Label maps of your own, whose classes a vocabulary names.

    Args:
        vocabulary: Classes ``0 .. N - 1`` of the label maps: whatever
            :meth:`hyper_mm.datasets.vocabulary.Vocabulary.load` takes.
        classes: The classes that are kept, in the order of their new labels, in the same forms; the
            others are ignored. All if None.
        **kwargs: See :class:`OpenVocabDataset`.

    Raises:
        ValueError: If a kept class is not in the vocabulary; see also :class:`OpenVocabDataset`.
    """

    SOURCE = ''

    def __init__(
        self,
        vocabulary: str | Sequence[str] | dict,
        classes: str | Sequence[str] | dict | None = None,
        **kwargs,
    ):
        self.METAINFO = metainfo(vocabulary)
        names, palette = self.METAINFO['classes'], self.METAINFO['palette']
        kept = list(names if classes is None else Vocabulary.load(classes).names)
        unknown = [name for name in kept if name not in names]
        if unknown:
            raise ValueError(f'classes must be among those of the vocabulary, got {unknown}')
        colors = [palette[names.index(name)] for name in kept]
        super().__init__(metainfo=dict(classes=kept, palette=colors), **kwargs)
