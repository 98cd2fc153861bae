"""Open-vocabulary semantic segmentation with CLIP: the host of HyperCLIP (CAT-Seg, CVPR 2024)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.structures import SegDataSample
from open_clip.model import resize_pos_embed
from torch import Tensor

from hyper_mm.checks import check_choice, check_count, check_range
from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.layers.hyperclip.weight_updates import TrainedParts
from hyper_mm.layers.open_vocab.dense_clip import DenseFeatures, check_tower, dense_features
from hyper_mm.layers.open_vocab.dense_cnn import (
    contenders,
    dense_cnn_features,
    guidance_taps,
    is_cnn,
    reductions,
)
from hyper_mm.layers.open_vocab.dense_vit import check_timm_vit, dense_vit_features, is_timm_vit
from hyper_mm.models.utils.finetuning import prepare_clip
from hyper_mm.models.utils.observed import observe
from hyper_mm.models.utils.open_clip import build_open_clip, image_size, pixel_range
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.models.utils.trained_weights import LoadsTrainedWeights
from hyper_mm.models.utils.vocabulary_features import VocabularyEncoder
from hyper_mm.models.utils.windows import GlobalWindows, resize
from hyper_mm.ops.inputs import upcast
from hyper_mm.registry import MODELS

CLASSES_AT_A_TIME = 64


@MODELS.register_module()
class OpenVocabSegmentor(LoadsTrainedWeights, OwnInit, BaseSegmentor):
    """Segments images into classes given by name.

    The vision tower of CLIP computes dense features and two maps of earlier blocks, the text tower
    the features of the prompts of each class; a head turns both into one logit map a class. What
    the classes are is the ``vocabulary``'s business alone: it can be exchanged at any time, and
    names the classes in predictions and pictures.

    Without a ``decode_head`` nothing is trained: pixels are scored against the texts as they are
    (:class:`hyper_mm.TextSimilarityHead`).

    For a transformer, images are resized to the size of the vision tower (bilinear, as in the
    official code, whose padding to multiples of 32 is left out: it would squash the border into the
    picture). A convolutional tower takes them at their own size, rounded to its stride.

    Args:
        clip: Arguments of :func:`hyper_mm.models.utils.open_clip.build_open_clip`.
        vocabulary: Classes: name of a built-in vocabulary, path of a file, list of names, or
            arguments of :class:`hyper_mm.datasets.vocabulary.Vocabulary`.
        decode_head: Config of a head with ``forward(dense, text)`` and ``loss(logits, labels)``,
            such as :class:`CostAggregationHead`; None: :class:`TextSimilarityHead`.
        data_preprocessor: Config, with the mean and standard deviation of the model's images (those
            of CLIP, 127.5 for LiteCLIP); others are warned of.
        adapter: Config of an adapter with ``attach(clip)``, which inserts itself and freezes the
            rest of CLIP: ``hyper_mm.HyperCLIPAdapter``, ``hyper_mm.LoRAAdapter``; or None.
        finetune: What of CLIP is trained without an adapter: ``'frozen'``, ``'qv'`` (query and
            value projections of both towers, as in CAT-Seg's official code) or ``'full'``.
        train_vocabulary: Classes of the training labels, where they are not ``vocabulary``'s.
        train_classes: Most classes of a training step, at least 2: those of its labels, all of
            them, and others by chance. It bounds time and memory of the head with a large
            vocabulary. None: all.
        taps: The two blocks whose maps guide the head, counted from 0. None: one and two thirds of
            a transformer, which is 3 and 7 for ViT-B, 7 and 15 for ViT-L; of a convolutional tower
            the maps of twice and four times the resolution of the last.
        resize: Whether images are resized to the size of the tower; None: where it is a
            transformer, which needs it.
        text: Arguments of the text encoding: ``chunk`` prompts at a time, and whether to
            ``checkpoint`` (compute activations again in the backward pass).
        train_cfg: Accepted for the configs of mmseg, which name it; has no entries.
        test_cfg: ``mode``: ``'whole'``, or ``'slide_global'`` with ``size``, ``window`` and
            ``stride`` (see :class:`GlobalWindows`). ``keep_scores``: whether predictions carry the
            scores of all classes as ``seg_logits``; None: those of the views of test-time
            augmentation do, which are told by ``flip`` in their metainfo.
            ``background_threshold``: pixels whose best score is less are background: the class
            ``'background'`` where the vocabulary has it, whose text then plays no part, else
            ``ignore_index`` of the head, or 255.
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
        decode_head: dict | None = None,
        data_preprocessor: dict | None = None,
        adapter: dict | None = None,
        finetune: str = 'frozen',
        train_vocabulary: str | Sequence[str] | dict | Vocabulary | None = None,
        train_classes: int | None = None,
        taps: Sequence[int] | None = None,
        resize: bool | None = None,
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
        self._read_tower(taps, resize)
        self.adapter = prepare_clip(self.clip, adapter, finetune)
        self.decode_head = MODELS.build(decode_head or dict(type='hyper_mm.TextSimilarityHead'))
        self.align_corners = False
        self.train_cfg = train_cfg
        if train_classes is not None:
            check_count(2, train_classes=train_classes)
        self.train_classes = train_classes
        self._read_test_cfg(**(test_cfg or {}))
        self._encoder = VocabularyEncoder(self.clip, **(text or {}))
        self._train_vocabulary = None
        self.vocabulary = vocabulary
        if train_vocabulary is not None:
            self._train_vocabulary = self._checked(train_vocabulary)
        self._register_load_state_dict_pre_hook(self._accept_plain)

    def _read_tower(self, taps: Sequence[int] | None, resize: bool | None) -> None:
        """Finds out what dense features and maps the image tower has."""
        visual = self.clip.visual
        self.image_size = image_size(self.clip)
        self.convolutional = is_cnn(visual)
        if self.convolutional:
            self._dense_of = dense_cnn_features
            self.resized = bool(resize)
            self.stride = reductions(visual)[-1]
            self.taps = guidance_taps(visual) if taps is None else tuple(taps)
        else:
            if resize is False:
                raise ValueError('resize must not be False: a transformer takes one size of images')
            self.resized, of_timm = True, is_timm_vit(visual)
            self._dense_of = dense_vit_features if of_timm else dense_features
            tower = visual.trunk if of_timm else getattr(visual, 'transformer', None)
            blocks = len(getattr(tower, 'blocks' if of_timm else 'resblocks', ()))
            self.taps = (blocks // 3 - 1, 2 * blocks // 3 - 1) if taps is None else tuple(taps)
            (check_timm_vit if of_timm else check_tower)(visual, self.taps)
        self._check_pixels()

    def _check_pixels(self) -> None:
        """Warns of a mean or standard deviation other than those of the model's images."""
        given = [getattr(self.data_preprocessor, key, None) for key in ('mean', 'std')]
        if not hasattr(self.clip.visual, 'image_mean'):
            return
        if any(x is None for x in given):
            mean, std = ([round(x, 2) for x in values] for values in pixel_range(self.clip))
            print_log(
                f'data_preprocessor has no mean and std: give it mean={mean}, std={std}, or images '
                'that are normalized by them',
                logger='current',
                level=logging.WARNING,
            )
            return
        for name, own, wanted in zip(('mean', 'std'), given, pixel_range(self.clip)):
            if not torch.allclose(own.flatten().cpu(), own.new_tensor(wanted).cpu(), atol=0.5):
                print_log(
                    f'data_preprocessor.{name} is {own.flatten().tolist()}, the image tower was '
                    f'trained with {[round(x, 2) for x in wanted]}',
                    logger='current',
                    level=logging.WARNING,
                )

    def _read_test_cfg(
        self,
        mode: str = 'whole',
        keep_scores: bool | None = None,
        background_threshold: float | None = None,
        **windows,
    ) -> None:
        if background_threshold is not None:
            check_range('(0, 1)', **{'test_cfg.background_threshold': background_threshold})
        self.background_threshold = background_threshold
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
        label = getattr(self.decode_head, 'ignore_index', 255)
        named = 'background' in vocabulary.names
        if self.background_threshold is not None and not named and label < len(vocabulary):
            raise ValueError(
                f'with test_cfg.background_threshold, pixels of no class get the label {label}, '
                f'which is {vocabulary.names[label]!r} of the {len(vocabulary)} names: '
                "add the name 'background' to it"
            )
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
        """Sets the mode; forgets features of trained towers, whose weights may be exchanged.

        A tower that is not trained stays in evaluation: its batch norms and dropout are frozen.
        """
        self._encoder.clear(frozen=False)
        super().train(mode)
        for tower in (self.clip.visual, getattr(self.clip, 'text', None)):
            if tower is not None and not any(p.requires_grad for p in tower.parameters()):
                tower.eval()
        return self

    def encode_vocabulary(self, classes: Sequence[int] | None = None) -> Tensor:
        """Text features ``(T, P, D)`` of the classes, the training classes in training mode.

        P is the number of templates where the head takes them apart, and 1 where it takes one: the
        unit mean of unit features then. With gradients they are encoded each time; else they are
        kept until the tower or the vocabulary changes.

        Args:
            classes: Classes that are wanted; None: all.
        """
        vocabulary = self.train_vocabulary if self.training else self.vocabulary
        if len(vocabulary.templates) > 1 and getattr(self.decode_head, 'num_prompts', None) == 1:
            text = self._encoder.mean(vocabulary, classes=classes).unsqueeze(1)
        else:
            text = self._encoder(vocabulary, classes=classes)
        (text,) = upcast(text)  # the head is float32 whatever CLIP is
        observe(text=text)
        return text

    def extract_feat(self, inputs: Tensor) -> DenseFeatures:
        """Dense features of images of any size, and the maps of the taps.

        Args:
            inputs: Normalized images ``(B, 3, H, W)``.
        """
        inputs = resize(inputs, self._size(inputs))
        dense = self._dense_of(self.clip.visual, inputs, self.taps)
        features, *maps = upcast(dense.features, *dense.intermediate)
        dense = DenseFeatures(features, tuple(maps))
        observe(pixels=dense.features)
        return dense

    def _forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Logits ``(B, T, h, w)`` of images as a whole, at the resolution of the head."""
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
        classes, labels = self._drawn(labels)
        text = self.encode_vocabulary(classes)
        return self.decode_head.loss(self.decode_head(self.extract_feat(inputs), text), labels)

    def _drawn(self, labels: Tensor) -> tuple[list[int] | None, Tensor]:
        """Classes of a training step, and the labels counted in them; see ``train_classes``."""
        count = len(self.train_vocabulary)
        ignored = getattr(self.decode_head, 'ignore_index', 255)
        if self.train_classes is None or count <= self.train_classes or 0 <= ignored < count:
            return None, labels  # the head refuses such an ignored label
        labels = labels.long()
        inside = (labels >= 0) & (labels < count)
        order = torch.rand(count, device=labels.device)
        order[labels[inside]] += 1  # those that are there come first
        kept = order.topk(max(self.train_classes, int((order >= 1).sum()))).indices.sort().values
        number = labels.new_zeros(count)
        number[kept] = torch.arange(len(kept), device=labels.device)
        return kept.tolist(), torch.where(inside, number[labels.clamp(0, count - 1)], labels)

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
        if len({view.shape[-2:] for view in views}) == 1:
            logits = self._forward(torch.cat(views)).float().split([len(v) for v in views])
        else:  # a convolutional tower takes images of different sizes one by one
            logits = [self._forward(view).float() for view in views]
        for image, own, sample in zip(images, logits, data_samples):
            size = tuple(sample.metainfo.get('ori_shape', image.shape[-2:]))[:2]
            self._label(own, size, sample)
        return data_samples

    def _whole(self, image: Tensor) -> Tensor:
        return resize(image[None], self._size(image))

    def _size(self, images: Tensor) -> tuple[int, int]:
        """The size at which the tower sees images."""
        if self.resized:
            return self.image_size
        height, width = (max(round(x / self.stride), 1) * self.stride for x in images.shape[-2:])
        return height, width

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

        A few classes at a time: all at once would need gigabytes for large images. Those that are
        nowhere the best are left out before.

        Args:
            logits: Of the views of an image ``(V, T, h, w)``.
            size: Original height and width.
            sample: Changed in place.
        """
        meta = sample.metainfo
        flip = meta.get('flip_direction') if meta.get('flip') else None
        if 'flip' in meta if self.keep_scores is None else self.keep_scores:
            classes = range(0, logits.shape[1], CLASSES_AT_A_TIME)
            parts = [
                self._scores(logits[:, k : k + CLASSES_AT_A_TIME], size, flip) for k in classes
            ]
            scores = torch.cat(parts)
            sample.set_data(dict(seg_logits=PixelData(data=scores)))
            sample.set_data(dict(pred_sem_seg=PixelData(data=self.best_classes(scores))))
            return
        kept = torch.arange(logits.shape[1], device=logits.device)
        background = self._background_class()
        if background is not None:
            kept = kept[kept != background]
        if not self.windows and len(kept) > 1:
            kept = kept[contenders(logits[0, kept].sigmoid())]
        best, label = logits.new_full(size, -1.0), kept.new_full(size, 0)
        for part in kept.split(CLASSES_AT_A_TIME):
            top, index = self._scores(logits[:, part], size, flip).max(0)
            label = label.where(top <= best, part[index])
            best = best.maximum(top)
        label = self._with_background(best, label)
        sample.set_data(dict(pred_sem_seg=PixelData(data=label[None])))

    def best_classes(self, scores: Tensor) -> Tensor:
        """Label map ``(1, H, W)`` of scores ``(T, H, W)``, with the background where it is asked.

        Args:
            scores: Probabilities of each class.
        """
        background = self._background_class()
        if background is not None:
            scores = scores.clone()
            scores[background] = -1
        best, label = scores.max(0)
        return self._with_background(best, label)[None]

    def _background_class(self) -> int | None:
        """The class that stands for the background, where a threshold tells it."""
        if self.background_threshold is None or 'background' not in self.vocabulary.names:
            return None
        return self.vocabulary.names.index('background')

    def _with_background(self, best: Tensor, label: Tensor) -> Tensor:
        """Labels ``(H, W)`` of the best scores, background where they are below the threshold."""
        if self.background_threshold is None:
            return label
        background = self._background_class()
        if background is None:
            background = getattr(self.decode_head, 'ignore_index', 255)
        return label.masked_fill(best < self.background_threshold, background)


def cut_padding(image: Tensor, meta: dict) -> Tensor:
    """An image without the padding that its batch has added.

    Args:
        image: ``(C, H, W)``.
        meta: Metainfo; ``img_padding_size`` or ``padding_size`` is left, right, top, bottom.
    """
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    return image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]
