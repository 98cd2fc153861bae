"""Importing this module registers hyper_mm's checkpoint loaders with mmengine's runner.

Importing :mod:`hyper_mm` alone does so only where the runner is imported already, for importing the
runner takes as long as importing torch. A config that names no component of ours, but reads
``timm-vit+ADDRESS``, therefore has ``custom_imports = dict(imports=['hyper_mm.loaders'])``.
"""

from .checkpoints import install_checkpoint_loader

install_checkpoint_loader()
