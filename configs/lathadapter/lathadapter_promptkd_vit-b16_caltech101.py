# LatHAdapter on PromptKD on Caltech101; its baseline is promptkd_vit-b16_caltech101.py, taught alike.
#   python tools/train.py configs/lathadapter/lathadapter_promptkd_vit-b16_caltech101.py --cfg-options model.teacher_checkpoint=TEACHER
# Result: not trained (paper: 0.89 above PromptKD in the harmonic mean over eleven sets)
#   python tools/test.py configs/lathadapter/lathadapter_promptkd_vit-b16_caltech101.py CHECKPOINT
# Data: data/caltech-101 with CoOp's split file (another set: HYPER_MM_SET=dtd before the command);
# see docs/lathadapter.md.
_base_ = 'promptkd_vit-b16_caltech101.py'
# of the teacher's width; the number of attributes comes from that of all classes of the set
model = dict(
    head=dict(type='hyper_mm.LatHAdapterHead', num_classes={{_base_.num_classes}}, embed_dims=768)
)
