"""The papers' settings of prompt learners where they differ from those of base-to-new."""

from __future__ import annotations

from mmengine.config import ConfigDict

from hyper_mm.checks import check_choice

PROTOCOLS = ('base2new', 'few_shot', 'cross_dataset', 'domain_gen')
LATE = ('stanford_cars', 'oxford_flowers', 'fgvc_aircraft', 'dtd', 'eurosat')
"""Sets of which PromptSRC averages the last epochs in the few-shot protocol, not all."""


def recipe(model: dict, protocol: str, name: str, shots: int) -> dict:
    """What a host changes for a protocol, of what its config has for base-to-new.

    - CoOp, few shots: 50 epochs for one shot and for ImageNet, 100 for two and four, 200 for more.
    - PromptSRC, few shots: 50 epochs, averaged around 30 with the width 30, or 45 and 5 (cars,
      flowers, aircraft, textures, EuroSAT); between data sets three blocks with prompts, averaged
      around 6 with the width 10.
    - MaPLe between data sets: 2 epochs at the rate 0.0026, three blocks with prompts. Its code has
      no few-shot recipe.

    Args:
        model: Config of a :class:`hyper_mm.PromptedCLIP` or ``PromptKD``.
        protocol: One of :data:`PROTOCOLS`.
        name: Set that is trained on.
        shots: Images of each class.

    Returns:
        Some of ``epochs``, ``lr``, ``depth`` (of both towers), ``mean`` and ``std`` (of the
        averaging); empty where nothing changes.

    Raises:
        ValueError: For an unknown protocol.

    Source: the official codes of CoOp, MaPLe (CVPR 2023) and PromptSRC (ICCV 2023).
    """
    check_choice(PROTOCOLS, protocol=protocol)
    host = (model.get('prompts') or {}).get('type')
    few, transfer = protocol == 'few_shot', protocol in ('cross_dataset', 'domain_gen')
    if host == 'CoOp' and few:
        few_epochs = shots == 1 or name == 'imagenet'
        return dict(epochs=50 if few_epochs else 100 if shots <= 4 else 200)
    if host == 'MaPLe' and transfer:
        return dict(epochs=2, lr=0.0026, depth=3)
    if host == 'IVLP' and few:
        mean, std = (45.0, 5.0) if name in LATE else (30.0, 30.0)
        return dict(epochs=50, mean=mean, std=std)
    if host == 'IVLP' and transfer:
        return dict(epochs=20, depth=3, mean=6.0, std=10.0)
    return {}


def apply_recipe(cfg: ConfigDict, protocol: str, name: str, shots: int) -> None:
    """Changes a config of base-to-new to the papers' settings of a protocol.

    Configs of small towers (``clip.model`` is no name) are nobody's recipe, and stay.

    Args:
        cfg: The config, changed in place.
        protocol: See :func:`recipe`.
        name: Set that is trained on.
        shots: Images of each class.
    """
    if not isinstance(cfg.model.clip.get('model'), str) or 'train_cfg' not in cfg:
        return
    changes = recipe(cfg.model, protocol, name, shots)
    if 'depth' in changes:
        cfg.model.prompts.depth = changes['depth']
        if cfg.model.prompts.type == 'IVLP':
            cfg.model.prompts.image_depth = changes['depth']
    if 'lr' in changes:
        set_rate(cfg, changes['lr'])
    if 'epochs' in changes:
        set_epochs(cfg, changes['epochs'])
    for hook in cfg.get('custom_hooks', []):
        if hook['type'] == 'hyper_mm.PromptAveragingHook' and 'mean' in changes:
            hook.update(mean=changes['mean'], std=changes['std'])


def set_rate(cfg: ConfigDict, rate: float) -> None:
    """Changes the learning rate; that of the first epoch stays."""
    ratio = cfg.optim_wrapper.optimizer.lr / rate
    cfg.optim_wrapper.optimizer.lr = rate
    for scheduler in cfg.param_scheduler:
        if 'factor' in scheduler:
            scheduler.factor *= ratio


def set_epochs(cfg: ConfigDict, epochs: int) -> None:
    """Changes the number of epochs, and what is counted in them."""
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    for scheduler in cfg.param_scheduler:
        if 'T_max' in scheduler:
            scheduler.T_max = epochs
