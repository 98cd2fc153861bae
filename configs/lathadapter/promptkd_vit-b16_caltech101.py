# PromptKD on Caltech101: a ViT-B/16 taught by a PromptSRC ViT-L/14, without labels.
#   python tools/train.py configs/lathadapter/promptkd_vit-b16_caltech101.py --cfg-options model.teacher_checkpoint=TEACHER
# Result: not trained (paper: harmonic mean 83.73 over eleven sets)
#   python tools/test.py configs/lathadapter/promptkd_vit-b16_caltech101.py CHECKPOINT
# Training has all training images, without labels, and the names of all classes; it ends with the
# accuracy on the base classes, the test is of the new ones. The teacher is trained before:
# promptsrc_vit-b16_caltech101.py with model.clip.model=ViT-L-14-quickgelu. Data: data/caltech-101
# with CoOp's split file (another set: HYPER_MM_SET=dtd before the command; of aircraft, flowers and
# textures model.weight=200); see docs/lathadapter.md.
_base_ = [
    '../_base_/models/clip_vit-b16_prompted.py',
    '../_base_/datasets/coop_few_shot.py',
    '../_base_/schedules/sgd_prompts.py',
]
model = dict(
    type='hyper_mm.PromptKD',
    prompts=dict(type='VPT', num_image=4, image_depth=9),
    teacher=dict(
        clip=dict(model='ViT-L-14-quickgelu', pretrained='openai'),
        prompts=dict(type='IVLP', num_context=4, num_image=4, depth=9, image_depth=9),
    ),
    teacher_checkpoint=None,
)
train_dataloader = dict(batch_size=8, dataset=dict(shots=None, subsample='all'))
optim_wrapper = dict(optimizer=dict(lr=0.005))
param_scheduler = [
    dict(type='ConstantLR', factor=1e-5 / 0.005, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=20, eta_min=0.0, by_epoch=True, begin=1, end=10000),
]
train_cfg = dict(max_epochs=20, val_interval=20)
