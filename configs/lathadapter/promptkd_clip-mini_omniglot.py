# PromptKD on a small CLIP, on Omniglot's five alphabets: all training images, without labels.
#   python tools/train.py configs/lathadapter/promptkd_clip-mini_omniglot.py
# Result: 28.02 ± 1.10 % top-1, its teacher with 16 shots, seeds 1 2 3 (docs/tables/lathadapter.md)
#   python tools/test.py configs/lathadapter/promptkd_clip-mini_omniglot.py CHECKPOINT
# Data: data/omniglot; CLIP: tools/experiments/pretrain_tiny_clip.py.
_base_ = ['../_base_/models/promptkd_clip-mini.py', '../_base_/datasets/few_shot_omniglot.py']
train_dataloader = dict(drop_last=True, dataset=dict(shots=None))
