# Radial embeddings: the text tower of CLIP ViT-L/14, tuned on HierarCaps.
#   python tools/train.py configs/radial/radial_clip-l14_hierarcaps.py
# Result: not trained (paper: precision 0.15, recall 0.44, tau_d 0.97, HyperLex rho 0.50; before tuning 0.16, 0.37, 0.88, 0.42)
# Data: configs/_base_/datasets/hierarcaps.py.
_base_ = 'radial_clip-b32_hierarcaps.py'
model = dict(clip=dict(model='ViT-L-14-quickgelu', pretrained='openai'))
