# Radial embeddings: the text tower of CLIP ViT-L/14, tuned on HierarCaps.
#   python tools/train.py configs/radial/radial_clip-l14_hierarcaps.py
# Data: configs/_base_/datasets/hierarcaps.py. Expected (paper): precision .15, recall .44, tau_d
# .97, HyperLex rho .50; before tuning .16, .37, .88, .42. Not trained here.
_base_ = 'radial_clip-b32_hierarcaps.py'
model = dict(clip=dict(model='ViT-L-14-quickgelu', pretrained='openai'))
