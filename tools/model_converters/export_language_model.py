r"""Writes a trained language model as a folder of safetensors, config.json and its tokenizer.

    python tools/model_converters/export_language_model.py \
        configs/helm/helm-d_mini_hierarcaps.py work_dirs/helm-d_mini_hierarcaps/iter_400.pth helm-d

`hyper_mm.models.language.interchange.load_pretrained('helm-d')` then builds the model without its
config, and `hyper_mm.models.language.transformers_model.HelmForTransformers.from_pretrained` one of
transformers.
"""

from __future__ import annotations

import argparse


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config of the model')
    add('checkpoint', help='its weights')
    add('folder', help='where to write')
    add('--tokens', help='folder of token ids (default: that of train_dataloader)')
    args = parser.parse_args()
    from mmengine.config import Config

    from hyper_mm.checkpoints import load_weights
    from hyper_mm.models.language.interchange import save_pretrained
    from hyper_mm.registry import MODELS

    cfg = Config.fromfile(args.config)
    tokens = args.tokens or cfg.get('train_dataloader', {}).get('dataset', {}).get('data_root')
    try:
        model = MODELS.build(cfg.model)
        model.load_state_dict(load_weights(args.checkpoint))
        save_pretrained(args.folder, model, cfg.model, tokens)
    except (ValueError, ImportError, FileNotFoundError, RuntimeError) as error:
        raise SystemExit(f'export_language_model.py: {error}') from error


if __name__ == '__main__':
    main()
