# Captions of HierarCaps' expanded set and test set, general to specific, as a text of 0.6 M tokens:
#   python tools/dataset_converters/tokenize_text.py data/hierarcaps_tokens
#       data/hierarcaps/hierarcaps_test_expanded.csv.gz data/hierarcaps/hierarcaps_test.csv
#       --columns positive captions --group image_url --compact
# 22,772 chains for training, 1,207 of other images for validation; 7,691 ids of CLIP's tokenizer.
data_root = '{{$HYPER_MM_DATA:data}}/hierarcaps_tokens'
vocab_size = 7691
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='hyper_mm.PackedTokenDataset', data_root=data_root, length=128, vocab_size=vocab_size
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='hyper_mm.PackedTokenDataset',
        data_root=data_root,
        split='val',
        length=128,
        vocab_size=vocab_size,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='hyper_mm.Perplexity')
test_evaluator = val_evaluator
