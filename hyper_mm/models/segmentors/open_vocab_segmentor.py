"""Open-vocabulary semantic segmentation with CLIP: the host of HyperCLIP (CAT-Seg, CVPR 2024)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.structures import SegDataSample
from open_clip.model import resize_pos_embed
from torch import Tensor

from hyper_mm.checks import check_choice
from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.layers.hyperclip.weight_updates import TrainedParts
from hyper_mm.layers.open_vocab.dense_clip import DenseFeatures, check_tower, dense_features
from hyper_mm.models.utils.finetuning import prepare_clip
from hyper_mm.models.utils.observed import observe
from hyper_mm.models.utils.open_clip import build_open_clip
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.models.utils.trained_weights import LoadsTrainedWeights
from hyper_mm.models.utils.vocabulary_features import VocabularyEncoder
from hyper_mm.models.utils.windows import GlobalWindows, resize
from hyper_mm.ops.stable import upcast
from hyper_mm.registry import MODELS

CLASSES_AT_A_TIME = 64


@MODELS.register_module()
class OpenVocabSegmentor(LoadsTrainedWeights, OwnInit, BaseSegmentor):
    """Segments images into classes given by name.

    The vision tower of CLIP computes dense features and two maps of earlier blocks, the text tower
    the features of the prompts of each class; a head turns both into one logit map a class. What
    the classes are is the ``vocabulary``'s business alone: it can be exchanged at any time, and
    names the classes in predictions and pictures.

    Images are resized to the size of the vision tower (bilinear, as in the official code, whose
    padding to multiples of 32 is left out: it would squash the border into the picture).

    Args:
        clip: Arguments of :func:`hyper_mm.models.utils.open_clip.build_open_clip`.
        vocabulary: Classes: name of a built-in vocabulary, path of a file, list of names, or
            arguments of :class:`hyper_mm.datasets.vocabulary.Vocabulary`.
        decode_head: Config of a head with ``forward(dense, text)`` and ``loss(logits, labels)``,
            such as :class:`CostAggregationHead`.
        data_preprocessor: Config, with CLIP's mean and standard deviation.
        adapter: Config of an adapter with ``attach(clip)``, which inserts itself and freezes the
            rest of CLIP: ``hyper_mm.HyperCLIPAdapter``, ``hyper_mm.LoRAAdapter``; or None.
        finetune: What of CLIP is trained without an adapter: ``'frozen'``, ``'qv'`` (query and
            value projections of both towers, as in CAT-Seg's official code) or ``'full'``.
        train_vocabulary: Classes of the training labels, where they are not ``vocabulary``'s.
        taps: The two blocks whose maps guide the head, counted from 0. None: one and two thirds of
            the tower, which is 3 and 7 for ViT-B, 7 and 15 for ViT-L.
        text: Arguments of the text encoding: ``chunk`` prompts at a time, and whether to
            ``checkpoint`` (compute activations again in the backward pass).
        train_cfg: Accepted for the configs of mmseg, which name it; has no entries.
        test_cfg: ``mode``: ``'whole'``, or ``'slide_global'`` with ``size``, ``window`` and
            ``stride`` (see :class:`GlobalWindows`). ``keep_scores``: whether predictions carry the
            scores of all classes as ``seg_logits``; None: those of the views of test-time
            augmentation do, which are told by ``flip`` in their metainfo.
        pretrained: None, which mmseg's ``init_model`` passes; weights are named in ``clip``.
        init_cfg: Initialization config of mmengine.

    Raises:
        TypeError: If an adapter cannot be attached.
        ValueError: If an argument has a value that is not allowed, a prompt is too long, or the
            head wants another number of templates.
    """

    loaded = ('clip',)

    def __init__(
        self,
        clip: dict,
        vocabulary: str | Sequence[str] | dict | Vocabulary,
        decode_head: dict,
        data_preprocessor: dict | None = None,
        adapter: dict | None = None,
        finetune: str = 'frozen',
        train_vocabulary: str | Sequence[str] | dict | Vocabulary | None = None,
        taps: Sequence[int] | None = None,
        text: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        pretrained: None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if pretrained is not None:
            raise ValueError(
                f'pretrained must be None: name the weights in clip.pretrained, got {pretrained!r}'
            )
        self.clip = build_open_clip(**clip)
        blocks = len(self.clip.visual.transformer.resblocks)
        self.taps = (blocks // 3 - 1, 2 * blocks // 3 - 1) if taps is None else tuple(taps)
        check_tower(self.clip.visual, self.taps)
        self.image_size = tuple(self.clip.visual.image_size)
        self.adapter = prepare_clip(self.clip, adapter, finetune)
        self.decode_head = MODELS.build(decode_head)
        self.align_corners = False
        self.train_cfg = train_cfg
        self._read_test_cfg(**(test_cfg or {}))
        self._encoder = VocabularyEncoder(self.clip, **(text or {}))
        self._train_vocabulary = None
        self.vocabulary = vocabulary
        if train_vocabulary is not None:
            self._train_vocabulary = self._checked(train_vocabulary)
        self._register_load_state_dict_pre_hook(self._accept_plain)

    def _read_test_cfg(
        self, mode: str = 'whole', keep_scores: bool | None = None, **windows
    ) -> None:
        check_choice(('whole', 'slide_global'), **{'test_cfg.mode': mode})
        if mode == 'whole' and windows:
            raise ValueError(f'test_cfg {sorted(windows)} need mode="slide_global"')
        self.windows = GlobalWindows(**windows) if mode == 'slide_global' else None
        self.keep_scores = keep_scores

    def _accept_plain(self, state: dict, prefix: str, *_: object) -> None:
        """Lets weights of a plain CLIP, of images of any size, load into the trained one."""
        key = 'visual.positional_embedding'
        if f'{prefix}clip.{key}' in state:
            resized = {key: state[f'{prefix}clip.{key}']}
            resize_pos_embed(resized, self.clip)
            state[f'{prefix}clip.{key}'] = resized[key]
        for name, module in self.clip.named_modules():
            if not isinstance(module, TrainedParts):
                continue
            own, (attention, _, rest) = (
                f'{prefix}clip.{name}',
                name.rpartition('.parametrizations.'),
            )
            plain = f'{prefix}clip.{attention}.{rest.partition(".")[0]}'
            if plain in state and f'{own}.parts' not in state:
                weight = state.pop(plain)
                rows = weight.chunk(len(module.names))
                state[f'{own}.parts'] = torch.stack([rows[place] for place in module.places])
                state[f'{own.rpartition(".")[0]}.original'] = weight

    def init_weights(self) -> None:
        """Initializes what is not pretrained, and logs what will be trained."""
        super().init_weights()
        trained = {
            name: sum(p.numel() for p in module.parameters() if p.requires_grad)
            for name, module in dict(CLIP=self.clip, head=self.decode_head).items()
        }
        parts = ', '.join(f'{name} {count:,}' for name, count in trained.items())
        count = sum(p.numel() for p in self.parameters())
        print_log(f'trained parameters: {parts}; of {count:,} in all', logger='current')

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes; assign a name, a path, a list or a :class:`Vocabulary` to change them."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, value: str | Sequence[str] | dict | Vocabulary) -> None:
        self._vocabulary = self._checked(value)
        self._palette = None

    def _checked(self, value: str | Sequence[str] | dict | Vocabulary) -> Vocabulary:
        """A vocabulary whose prompts suit the text tower and the head."""
        vocabulary = Vocabulary.load(value)
        wanted = getattr(self.decode_head, 'num_prompts', 1)
        if wanted not in (1, len(vocabulary.templates)):
            raise ValueError(
                f'the head takes {wanted} templates a class (aggregator.num_prompts), the '
                f'vocabulary has {len(vocabulary.templates)}: give as many, or num_prompts=1, '
                'which averages them'
            )
        self._encoder.tokens(vocabulary)  # reports prompts that are too long
        return vocabulary

    @property
    def train_vocabulary(self) -> Vocabulary:
        """The classes of the training labels."""
        return self.vocabulary if self._train_vocabulary is None else self._train_vocabulary

    @property
    def out_channels(self) -> int:
        """Number of classes, as mmseg's test-time augmentation asks for it."""
        return len(self.vocabulary)

    @property
    def dataset_meta(self) -> dict:
        """Class names and palette of the vocabulary, as visualizers want them."""
        names = list(self.vocabulary.names)
        return dict(classes=names, palette=self._palette or self.vocabulary.palette)

    @dataset_meta.setter
    def dataset_meta(self, meta: dict | None) -> None:
        """Takes the palette of a data set whose classes are the vocabulary's; names stay."""
        meta = meta or {}
        if list(meta.get('classes') or ()) == list(self.vocabulary.names):
            self._palette = meta.get('palette')

    def train(self, mode: bool = True) -> OpenVocabSegmentor:
        """Sets the mode; forgets features of trained towers, whose weights may be exchanged."""
        self._encoder.clear(frozen=False)
        return super().train(mode)

    def encode_vocabulary(self) -> Tensor:
        """Text features ``(T, P, D)`` of the classes, the training classes in training mode.

        P is the number of templates where the head takes them apart, and 1 where it takes one: the
        unit mean of unit features then. With gradients they are encoded each time; else they are
        kept until the tower or the vocabulary changes.
        """
        vocabulary = self.train_vocabulary if self.training else self.vocabulary
        if len(vocabulary.templates) > 1 and getattr(self.decode_head, 'num_prompts', None) == 1:
            text = self._encoder.mean(vocabulary).unsqueeze(1)
        else:
            text = self._encoder(vocabulary)
        (text,) = upcast(text)  # the head is float32 whatever CLIP is
        observe(text=text)
        return text

    def extract_feat(self, inputs: Tensor) -> DenseFeatures:
        """Dense features of images of any size, and the maps of the taps.

        Args:
            inputs: Normalized images ``(B, 3, H, W)``.
        """
        dense = dense_features(self.clip.visual, resize(inputs, self.image_size), self.taps)
        features, *maps = upcast(dense.features, *dense.intermediate)
        dense = DenseFeatures(features, tuple(maps))
        observe(pixels=dense.features)
        return dense

    def _forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Logits ``(B, T, 4 h, 4 w)`` of images as a whole, at four times the patch grid."""
        return self.decode_head(self.extract_feat(inputs), self.encode_vocabulary())

    def encode_decode(
        self, inputs: Tensor, batch_data_samples: list[SegDataSample] | None = None
    ) -> Tensor:
        """Logits ``(B, T, H, W)`` of images as a whole, at their size."""
        return resize(self._forward(inputs), inputs.shape[-2:])

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of the head.

        Args:
            inputs: Images ``(B, 3, H, W)``.
            data_samples: With ``gt_sem_seg``.
        """
        labels = torch.cat([sample.gt_sem_seg.data for sample in data_samples])
        return self.decode_head.loss(self._forward(inputs), labels)

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Label maps at the original size of each image.

        Padding is cut off before anything else, so the images of a batch do not depend on each
        other.

        Args:
            inputs: Images ``(B, 3, H, W)``, padded.
            data_samples: Metainfo of the images: padding, flip, original size.

        Returns:
            Data samples with ``pred_sem_seg``.
        """
        if data_samples is None:
            data_samples = [SegDataSample() for _ in inputs]
        images = [cut_padding(x, sample.metainfo) for x, sample in zip(inputs, data_samples)]
        views = [self.windows.split(x) if self.windows else self._whole(x) for x in images]
        logits = self._forward(torch.cat(views)).float().split([len(v) for v in views])
        for image, own, sample in zip(images, logits, data_samples):
            size = tuple(sample.metainfo.get('ori_shape', image.shape[-2:]))[:2]
            self._label(own, size, sample)
        return data_samples

    def _whole(self, image: Tensor) -> Tensor:
        return resize(image[None], self.image_size)

    def _scores(self, logits: Tensor, size: tuple[int, int], flip: str | None) -> Tensor:
        """Scores ``(T, *size)`` of some classes from the logits of an image's views."""
        if self.windows:
            scores = resize(logits, (self.windows.window, self.windows.window)).sigmoid()
            scores = self.windows.merge(scores)
        else:
            scores = logits.sigmoid()
        if flip is not None:
            scores = scores.flip(dict(horizontal=-1, vertical=-2)[flip])
        return resize(scores, size)[0]

    def _label(self, logits: Tensor, size: tuple[int, int], sample: SegDataSample) -> None:
        """Writes the best class of each pixel into a sample.

        A few classes at a time: all at once would need gigabytes for large images.

        Args:
            logits: Of the views of an image ``(V, T, h, w)``.
            size: Original height and width.
            sample: Changed in place.
        """
        meta = sample.metainfo
        flip = meta.get('flip_direction') if meta.get('flip') else None
        keep = 'flip' in meta if self.keep_scores is None else self.keep_scores
        best, label, kept = None, None, []
        for start in range(0, logits.shape[1], CLASSES_AT_A_TIME):
            scores = self._scores(logits[:, start : start + CLASSES_AT_A_TIME], size, flip)
            top, index = scores.max(0)
            if best is None:
                best, label = top, index
            else:
                label = label.where(top <= best, index + start)
                best = best.maximum(top)
            if keep:
                kept.append(scores)
        sample.set_data(dict(pred_sem_seg=PixelData(data=label[None])))
        if kept:
            sample.set_data(dict(seg_logits=PixelData(data=torch.cat(kept))))


def cut_padding(image: Tensor, meta: dict) -> Tensor:
    """An image without the padding that its batch has added.

    Args:
        image: ``(C, H, W)``.
        meta: Metainfo; ``img_padding_size`` or ``padding_size`` is left, right, top, bottom.
    """
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    return image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]
