"""Child registries of mmengine's, filled component by component on first use.

``type='hyper_mm.X'`` in any config is enough: mmengine imports this module for the scope, and
:class:`LazyRegistry` then imports the one module that defines ``X``. So a config never waits for
components that it does not use, and one whose library is missing raises an error with its name.
"""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from logging import DEBUG

from mmengine import registry as root
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import print_log
from mmengine.registry import DefaultScope, Registry

from . import checkpoints as compat
from .engine import file_backend
from .near_misses import explain_arguments, suggestion

PACKAGES = {
    'mmseg': 'mmsegmentation',
    'mmdet': 'mmdet',
    'mmpretrain': 'mmpretrain',
    'monai': 'monai',
    'open_clip': 'open_clip_torch',
    'peft': 'peft',
    'scipy': 'scipy',
}
"""Import name of each optional library, and what to install for it."""

HOSTS = ('mmseg', 'mmdet', 'mmpretrain')
"""Libraries whose models are found under our scope."""

COMPONENTS: dict[str, dict[str, tuple[str, ...]]] = {
    'model': {
        'BatchDiceLoss': ('models.losses.batch_dice_loss',),
        'BoundaryContrastHead': ('models.heads.boundary_contrast_head',),
        'BoundaryInfoNCELoss': ('models.losses.boundary_info_nce',),
        'CLIPBackbone': ('models.backbones.clip_backbone', 'open_clip'),
        'CascadeEncoderDecoder': ('models.segmentors.encoder_decoder', 'mmseg'),
        'CascadeRCNN': ('models.detectors.detectors', 'mmdet'),
        'ConvBlocks': ('models.backbones.conv_blocks',),
        'CostAggregationHead': ('models.heads.cost_aggregation_head',),
        'EncoderDecoder': ('models.segmentors.encoder_decoder', 'mmseg'),
        'EntailmentConeLoss': ('models.vision_language.radial_losses',),
        'EpisodicSegmentor': ('models.meta.episodic_segmentor',),
        'EuclideanDecoder': ('models.language.decoders',),
        'FasterRCNN': ('models.detectors.detectors', 'mmdet'),
        'FullTuning': ('models.adapters.lora',),
        'HelmDecoder': ('models.language.decoders',),
        'HelmForCausalLM': ('models.language.helm',),
        'HiMapper': ('models.necks.hi_mapper',),
        'HiMapperPooling': ('models.necks.hi_mapper_pooling',),
        'HiMapperTree': ('models.necks.hi_mapper_tree',),
        'HyperCLIPAdapter': ('models.adapters.hyperclip',),
        'ImageClassifier': ('models.classifiers.image_classifier', 'mmpretrain'),
        'LatHAdapterHead': ('models.heads.lath_adapter_head',),
        'LoRAAdapter': ('models.adapters.lora',),
        'LorentzViT': ('models.backbones.lorentz_vit',),
        'MaskRCNN': ('models.detectors.detectors', 'mmdet'),
        'MetaLearner': ('models.meta.meta_learner',),
        'MonaiBackbone': ('models.backbones.monai_backbone', 'monai'),
        'MultiTaskModel': ('models.meta.multi_task_model',),
        'MultimodalEncoderDecoder': ('models.segmentors.multimodal_encoder_decoder', 'mmseg'),
        'NormEvalTIMMBackbone': ('models.backbones.norm_eval_timm_backbone', 'mmpretrain'),
        'OpenVocabBBoxHead': ('models.heads.open_vocab_roi_head', 'mmdet'),
        'OpenVocabFasterRCNN': ('models.detectors.open_vocab_rcnn', 'mmdet', 'open_clip'),
        'OpenVocabFusionHead': ('models.heads.open_vocab_mask2former_head', 'mmdet'),
        'OpenVocabMask2Former': (
            'models.detectors.open_vocab_mask2former',
            'mmdet',
            'open_clip',
        ),
        'OpenVocabMask2FormerHead': ('models.heads.open_vocab_mask2former_head', 'mmdet'),
        'OpenVocabMaskRCNN': ('models.detectors.open_vocab_rcnn', 'mmdet', 'open_clip'),
        'OpenVocabRoIHead': ('models.heads.open_vocab_roi_head', 'mmdet'),
        'OpenVocabSegmentor': ('models.segmentors.open_vocab_segmentor', 'mmseg', 'open_clip'),
        'OpenVocabTTAModel': ('models.segmentors.open_vocab_tta_model', 'mmseg', 'open_clip'),
        'PeftAdapter': ('models.adapters.peft_adapter', 'peft'),
        'PlainBlocks': ('models.necks.plain_blocks',),
        'PrototypicalClassifier': ('models.meta.prototypical_classifier', 'mmpretrain'),
        'PrototypicalClsHead': ('models.heads.prototypical_cls_head', 'mmpretrain'),
        'PrototypicalHead': ('models.heads.prototypical_head',),
        'PrototypicalSegmentor': ('models.meta.prototypical_segmentor',),
        'PromptKD': ('models.classifiers.prompt_kd', 'mmpretrain', 'open_clip'),
        'PromptedCLIP': ('models.classifiers.prompted_clip', 'mmpretrain', 'open_clip'),
        'RadialCLIP': ('models.vision_language.radial_clip', 'open_clip'),
        'RadialEmbeddingLoss': ('models.vision_language.radial_losses',),
        'RetinaNet': ('models.detectors.detectors', 'mmdet'),
        'SimpleFeaturePyramid': ('models.necks.simple_feature_pyramid',),
        'TrainedPartsAdapter': ('models.adapters.lora',),
        'TextSimilarityHead': ('models.heads.text_similarity_head',),
        'UNetDecoder': ('models.necks.unet_decoder', 'mmseg'),
    },
    'model_wrapper': {
        'ShardedModel': ('models.utils.fully_sharded',),
    },
    'dataset': {
        'ADE20KFull847Dataset': ('datasets.open_vocab', 'mmseg'),
        'ADE20KPartsDataset': ('datasets.ade20k_parts', 'mmseg'),
        'BCCDDataset': ('datasets.bccd', 'mmdet'),
        'BreedsDataset': ('datasets.breeds', 'mmpretrain'),
        'BreedsNamesDataset': ('datasets.breeds_names', 'mmpretrain'),
        'CamVidDataset': ('datasets.camvid', 'mmseg'),
        'CoOpFewShotDataset': ('datasets.few_shot', 'mmpretrain'),
        'EpisodeDataset': ('datasets.episodes',),
        'CocoCaptionsDataset': ('datasets.coco_captions',),
        'HierarCapsDataset': ('datasets.text_chains',),
        'HyperLexDataset': ('datasets.text_chains',),
        'MixedEpisodeDataset': ('datasets.mixed_episodes',),
        'MultipleChoiceDataset': ('datasets.multiple_choice',),
        'OpenVocabPanopticDataset': ('datasets.open_vocab_panoptic', 'mmdet'),
        'PackedTokenDataset': ('datasets.packed_tokens',),
        'PartScenesDataset': ('datasets.part_scenes_seg', 'mmseg'),
        'PartScenesDetDataset': ('datasets.part_scenes_det', 'mmdet'),
        'PartScenesWholesDataset': ('datasets.part_scenes_seg', 'mmseg'),
        'PascalContext459Dataset': ('datasets.open_vocab', 'mmseg'),
        'PascalContext59Dataset': ('datasets.open_vocab', 'mmseg'),
        'PascalVOC20Dataset': ('datasets.open_vocab', 'mmseg'),
        'PascalVOC20bDataset': ('datasets.open_vocab', 'mmseg'),
        'SiteSegDataset': ('datasets.site_seg', 'mmseg'),
        'VocabularySegDataset': ('datasets.open_vocab', 'mmseg'),
    },
    'hook': {
        'DatasetVocabularyHook': ('engine.hooks.dataset_vocabulary_hook',),
        'EqualShardsHook': ('engine.hooks.equal_shards_hook',),
        'ExactResumeHook': ('engine.hooks.exact_resume_hook',),
        'FrozenTargetsHook': ('engine.hooks.frozen_targets_hook', 'open_clip'),
        'HierarchyVisualizationHook': ('engine.hooks.hierarchy_visualization_hook',),
        'HyperbolicRadiusHook': ('engine.hooks.hyperbolic_radius_hook',),
        'MergeAdaptersHook': ('engine.hooks.merge_adapters_hook',),
        'MoEBalanceHook': ('engine.hooks.moe_balance_hook',),
        'PredictionMapsHook': ('engine.hooks.prediction_maps_hook', 'mmseg'),
        'PromptAveragingHook': ('engine.hooks.prompt_averaging_hook',),
        'SafeCheckpointHook': ('engine.hooks.safe_checkpoint_hook',),
        'TaxonomyClassesHook': ('engine.hooks.taxonomy_classes_hook',),
        'TrainedWeightsHook': ('engine.hooks.trained_weights_hook',),
        'VocabularyHook': ('engine.hooks.vocabulary_hook',),
    },
    'strategy': {
        'ShardedStrategy': ('engine.strategies',),
    },
    'optim_wrapper': {
        'BFloat16OptimWrapper': ('engine.optimizers.optim_wrappers',),
    },
    'optimizer wrapper constructor': {
        'ComponentOptimWrapperConstructor': ('engine.optimizers.component_optim',),
        'HyperbolicOptimWrapperConstructor': ('engine.optimizers.hyperbolic_optim',),
    },
    'metric': {
        'BaseNewAccuracy': ('evaluation.metrics.base_new_accuracy',),
        'DiceHausdorffMetric': ('evaluation.metrics.dice_hausdorff', 'monai', 'scipy'),
        'FewShotIoUMetric': ('evaluation.metrics.few_shot_iou',),
        'HierarCapsMetric': ('evaluation.metrics.text_hierarchy',),
        'HierarchicalRecall': ('evaluation.metrics.text_hierarchy',),
        'HierarchyPurity': ('evaluation.metrics.hierarchy_purity',),
        'HyperLexMetric': ('evaluation.metrics.text_hierarchy',),
        'ImageTextRecall': ('evaluation.metrics.text_hierarchy',),
        'MultipleChoiceAccuracy': ('evaluation.metrics.language',),
        'OVIoUMetric': ('evaluation.metrics.ov_iou',),
        'OpenVocabPanopticMetric': ('evaluation.metrics.open_vocab_panoptic', 'mmdet'),
        'Perplexity': ('evaluation.metrics.language',),
        'TaskMetric': ('evaluation.metrics.task_metric',),
        'TaxonomyMetric': ('evaluation.metrics.taxonomy_metric',),
        'UncertaintyMetric': ('evaluation.metrics.uncertainty_metric',),
    },
    'transform': {
        'FrequencyAmplitudeMix': ('datasets.transforms.frequency_amplitude_mix',),
        'GenerateBoundaryBands': ('datasets.transforms.boundary_bands',),
        'LoadADE20KParts': ('datasets.ade20k_parts', 'mmseg'),
        'LoadImageWindow': ('datasets.transforms.load_image_window',),
        'LoadPanopticSegments': ('datasets.open_vocab_panoptic', 'mmdet'),
        'LoadSegAnnotations16': ('datasets.transforms.load_seg_annotations16',),
        'MonaiTransform': ('datasets.transforms.monai_transform', 'monai'),
        'PackEpisodicSegInputs': ('datasets.transforms.pack_episodic_seg_inputs', 'mmseg'),
        'PackTexts': ('datasets.text_chains',),
        'RandomStyle': ('datasets.transforms.random_style',),
    },
    'visualizer': {
        'DetLocalVisualizer': ('visualization.det_local_visualizer', 'mmdet'),
        'SegLocalVisualizer': ('visualization.seg_local_visualizer', 'mmseg'),
    },
    'loop': {
        'EpisodicTrainLoop': ('engine.loops.episodic',),
        'FewShotEvalLoop': ('engine.loops.episodic',),
    },
    'data sampler': {
        'FewShotSampler': ('datasets.samplers.few_shot_sampler',),
    },
}
"""Every component: registry -> name -> (module of this package, libraries it needs ...)."""


class LazyRegistry(Registry):
    """A child registry that imports the module of a component when it is first asked for."""

    def get(self, key: str) -> type | None:
        """Returns the component of that name; see :meth:`mmengine.registry.Registry.get`.

        A name that is none of ours, but that of a registered model with ``loss()``, stands for that
        model with the losses of its components (:func:`hyper_mm.models.stock.collecting`), and that
        of a head for the head with a classifier to choose (:func:`hyper_mm.models.stock.hosting`):
        the one of the current default scope, or else the only one of all scopes.

        Args:
            key: Name, with or without the scope.

        Raises:
            ImportError: If the library that the component adapts is not installed.
            KeyError: If there is no such component (with the names next to it), several scopes have
                a model of that name, or it is no model.
        """
        name = key.split('.', 1)[1] if key.startswith(f'{self.scope}.') else key
        entry = COMPONENTS.get(self.name, {}).get(name)
        if entry is not None and name not in self._module_dict:
            load_component(name, *entry)
        if entry is not None or name in self._module_dict or '.' in name:
            return super().get(key)
        found = super().get(key)
        if self.name == 'model':
            found = self._model(name, found)
        if found is None:
            raise KeyError(self._unknown(name))
        return found

    def import_from_location(self) -> None:
        """Nothing: components are imported one by one."""

    def __contains__(self, key: str) -> bool:
        try:
            return self.get(key) is not None
        except KeyError:
            return False

    def _register_module(self, module: type, *args, **kwargs) -> None:
        if isinstance(module, type):
            explain_arguments(module)
        super()._register_module(module, *args, **kwargs)

    def _model(self, name: str, inherited: type | None) -> type | None:
        """The stock model or head of that name, adapted; ``inherited`` if that is neither."""
        from .models.stock import adapted, can_adapt

        if inherited is not None and not can_adapt(inherited):
            return inherited  # a layer of the root registry
        found = self._in_scopes(name)
        models = {path: kind for path, kind in found.items() if can_adapt(kind)}
        if len(set(models.values())) > 1:
            raise KeyError(
                f'hyper_mm.{name} may be any of {sorted(models)}: say which by '
                f"default_scope, or dict(_scope_=..., type='hyper_mm.{name}')"
            )
        if models:
            compat.install_checkpoint_loader()
            return adapted(next(iter(models.values())))
        if found:
            path = sorted(found)[0]
            raise KeyError(
                f'hyper_mm.{name} is not in the model registry: {path} is no model with loss() '
                'that would collect the losses of its components, and no head with a classifier '
                f'to replace. Write type={path!r}'
            )
        return inherited

    def _in_scopes(self, name: str) -> dict[str, type]:
        """What is registered under a name: in the current scope, or if there is none, in others."""
        instance = DefaultScope.get_current_instance()
        current = None if instance is None or instance.scope_name == self.scope else instance
        found: dict[str, type] = {}
        if current is not None:
            found = self._in_scope(current.scope_name, name)
        if not found:
            known = {r.scope for r in _descendants(self.parent)} | {*HOSTS}
            for scope in sorted(known - {self.scope, current and current.scope_name}):
                try:
                    found |= self._in_scope(scope, name)
                except Exception as error:  # a broken library is of no interest here
                    print_log(f'looked for {name!r} in {scope}: {error}', 'current', DEBUG)
        return found

    def _in_scope(self, scope: str, name: str) -> dict[str, type]:
        """What is registered under a name in one scope."""
        with suppress(ModuleNotFoundError):  # not installed, or a scope without a package
            importlib.import_module(f'{scope}.registry')
        registries = [r for r in _descendants(self.parent) if r.scope == scope]
        found = registries[0].get(name) if registries else None
        return {} if found is None else {f'{scope}.{name}': found}

    def _unknown(self, name: str) -> str:
        """What to say of a name that is not registered."""
        here = COMPONENTS.get(self.name, {}).keys() | self._module_dict.keys()
        places = [kind for kind, components in COMPONENTS.items() if name in components]
        if places:
            return f'hyper_mm.{name} is a {places[0]}, it is not in the {self.name} registry'
        theirs = set()
        if self.name == 'model':
            from .models.stock import can_adapt

            scopes = [r.module_dict.items() for r in _descendants(self.parent)]
            theirs = {key for items in scopes for key, kind in items if can_adapt(kind)}
        hint = suggestion(name, here | theirs)
        return (
            f'hyper_mm.{name} is not in the {self.name} registry{hint or "."} '
            f'Ours are {", ".join(sorted(here))}'
        )


def _descendants(registry: Registry) -> list[Registry]:
    return [registry, *(x for child in registry.children.values() for x in _descendants(child))]


def load_component(name: str, module: str, *libraries: str):
    """Imports the module of a component.

    Args:
        name: Name of the component.
        module: Its module within the package.
        *libraries: Import names of the libraries that it needs.

    Returns:
        The component.

    Raises:
        ImportError: If a library is missing or broken; the message names it.
    """
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise ImportError(
                f'hyper_mm.{name} needs {library}, which is not installed: '
                f'pip install {PACKAGES[library]}'
            )
    compat.install_checkpoint_loader()
    return getattr(importlib.import_module(f'{__package__}.{module}'), name)


def register_all_modules() -> None:
    """Imports every component whose libraries are installed (they load by themselves on use)."""
    for components in COMPONENTS.values():
        for name, (module, *libraries) in components.items():
            if all(importlib.util.find_spec(library) for library in libraries):
                load_component(name, module, *libraries)


def lazy_attributes(kind: str):
    """``__getattr__`` and ``__dir__`` of a package that offers the components of one registry.

    Args:
        kind: Name of the registry.

    Returns:
        The two functions, for a module to define.
    """

    def getattribute(name: str):
        entry = COMPONENTS[kind].get(name)
        if entry is None:
            raise AttributeError(f'hyper_mm has no {kind} {name!r}')
        return load_component(name, *entry)

    return getattribute, lambda: sorted(COMPONENTS[kind])


def _child(parent: Registry) -> LazyRegistry:
    return LazyRegistry(parent.name, parent=parent, scope='hyper_mm')


MODELS = _child(root.MODELS)
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS)
STRATEGIES = _child(root.STRATEGIES)
DATASETS = _child(root.DATASETS)
DATA_SAMPLERS = _child(root.DATA_SAMPLERS)
TRANSFORMS = _child(root.TRANSFORMS)
HOOKS = _child(root.HOOKS)
LOOPS = _child(root.LOOPS)
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS)
METRICS = _child(root.METRICS)
VISUALIZERS = _child(root.VISUALIZERS)


def _installed(package: str) -> str:
    """Name of a distribution, or of its continuation by OneDL where that alone is installed."""
    for name in (package, f'onedl-{package}'):
        with suppress(PackageNotFoundError):
            return distribution(name).metadata['Name']
    return package


# Where mmengine finds _base_ = 'hyper_mm::...'. Of a distribution's name it would look beside the
# metadata, where an editable install has no package; of a module it asks Python.
MODULE2PACKAGE.setdefault('hyper_mm', 'hyper_mm.version')
# OneDL's mmengine asks for the old distribution
MODULE2PACKAGE['mmseg'] = _installed(MODULE2PACKAGE['mmseg'])
compat.setup()
file_backend.install()
