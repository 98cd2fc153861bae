# Plain training on the tasks of maml_unet_nuclei.py, whose baseline it is: Reptile with one inner step is a step of plain training; fine-tuned on the support in the test, as there
#   python tools/train.py configs/metaseg/joint_unet_nuclei.py
# Result: not trained
#   python tools/test.py configs/metaseg/joint_unet_nuclei.py CHECKPOINT
# Data: data/nuclei (or where HYPER_MM_DATA says). 1000 iterations of 16 tasks of 5 images: the
# gradient budget of maml_unet_nuclei.py, 4 x (3 x 5 + 5) images a step. As the baseline of reptile_unet_nuclei.py
# --cfg-options train_dataloader.batch_size=20, of protonet_unet_nuclei.py 8.
_base_ = './maml_unet_nuclei.py'
model = dict(algorithm='reptile', inner_steps=1)
train_dataloader = dict(batch_size=16)
