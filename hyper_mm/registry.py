"""Child registries of mmengine's, filled component by component on first use.

``type='hyper_mm.X'`` in any config is enough: mmengine imports this module for the scope, and
:class:`LazyRegistry` then imports the one module that defines ``X``. So a config never waits for
components that it does not use, and one whose library is missing says which.
"""

from __future__ import annotations

import importlib
import importlib.util

from mmengine import registry as root
from mmengine.registry import Registry

from . import checkpoints as compat
from .engine import file_backend

PACKAGES = {
    'mmseg': 'mmsegmentation',
    'mmdet': 'mmdet',
    'mmpretrain': 'mmpretrain',
    'monai': 'monai',
    'open_clip': 'open_clip_torch',
    'scipy': 'scipy',
}
"""Import name of each optional library, and what to install for it."""

COMPONENTS: dict[str, dict[str, tuple[str, ...]]] = {
    'model': {
        'BatchDiceLoss': ('models.losses.batch_dice_loss',),
        'BoundaryContrastHead': ('models.heads.boundary_contrast_head',),
        'BoundaryInfoNCELoss': ('models.losses.boundary_info_nce',),
        'CascadeEncoderDecoder': ('models.segmentors.encoder_decoder', 'mmseg'),
        'CascadeRCNN': ('models.detectors.detectors', 'mmdet'),
        'CostAggregationHead': ('models.heads.cost_aggregation_head',),
        'EncoderDecoder': ('models.segmentors.encoder_decoder', 'mmseg'),
        'EntailmentConeLoss': ('models.vision_language.radial_losses',),
        'EpisodicSegmentor': ('models.meta.episodic_segmentor',),
        'EuclideanDecoder': ('models.language.decoders',),
        'FasterRCNN': ('models.detectors.detectors', 'mmdet'),
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
        'MultiTaskModel': ('models.meta.multi_task_model',),
        'MultimodalEncoderDecoder': ('models.segmentors.multimodal_encoder_decoder', 'mmseg'),
        'OpenVocabSegmentor': ('models.segmentors.open_vocab_segmentor', 'mmseg', 'open_clip'),
        'OpenVocabTTAModel': ('models.segmentors.open_vocab_tta_model', 'mmseg', 'open_clip'),
        'PrototypicalHead': ('models.heads.prototypical_head',),
        'PrototypicalSegmentor': ('models.meta.prototypical_segmentor',),
        'PromptKD': ('models.classifiers.prompt_kd', 'mmpretrain', 'open_clip'),
        'PromptedCLIP': ('models.classifiers.prompted_clip', 'mmpretrain', 'open_clip'),
        'RadialCLIP': ('models.vision_language.radial_clip', 'open_clip'),
        'RadialEmbeddingLoss': ('models.vision_language.radial_losses',),
        'RetinaNet': ('models.detectors.detectors', 'mmdet'),
        'SimpleFeaturePyramid': ('models.necks.simple_feature_pyramid',),
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
        'ExactResumeHook': ('engine.hooks.exact_resume_hook',),
        'FrozenTargetsHook': ('engine.hooks.frozen_targets_hook', 'open_clip'),
        'HierarchyVisualizationHook': ('engine.hooks.hierarchy_visualization_hook',),
        'HyperbolicRadiusHook': ('engine.hooks.hyperbolic_radius_hook',),
        'MergeAdaptersHook': ('engine.hooks.merge_adapters_hook',),
        'MoEBalanceHook': ('engine.hooks.moe_balance_hook',),
        'PromptAveragingHook': ('engine.hooks.prompt_averaging_hook',),
        'SafeCheckpointHook': ('engine.hooks.safe_checkpoint_hook',),
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
        'Perplexity': ('evaluation.metrics.language',),
        'TaskMetric': ('evaluation.metrics.task_metric',),
    },
    'transform': {
        'FrequencyAmplitudeMix': ('datasets.transforms.frequency_amplitude_mix',),
        'GenerateBoundaryBands': ('datasets.transforms.boundary_bands',),
        'LoadADE20KParts': ('datasets.ade20k_parts', 'mmseg'),
        'LoadImageWindow': ('datasets.transforms.load_image_window',),
        'LoadSegAnnotations16': ('datasets.transforms.load_seg_annotations16',),
        'PackEpisodicSegInputs': ('datasets.transforms.pack_episodic_seg_inputs', 'mmseg'),
        'PackTexts': ('datasets.text_chains',),
    },
    'visualizer': {
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

        Args:
            key: Name, with or without the scope.

        Raises:
            ImportError: If the library that the component adapts is not installed.
        """
        name = key.split('.', 1)[1] if key.startswith(f'{self.scope}.') else key
        entry = COMPONENTS.get(self.name, {}).get(name)
        if entry is not None and name not in self._module_dict:
            load_component(name, *entry)
        return super().get(key)


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

compat.setup()
file_backend.install()
