# English Wikipedia in sequences of 2,048 tokens of Llama 3's tokenizer, a file that Meta gives out:
#   python -c "from datasets import load_dataset as load; \
#       load('wikimedia/wikipedia', '20231101.en', split='train').to_json('wikipedia.jsonl')"
#   python tools/dataset_converters/tokenize_text.py data/wikipedia_tokens wikipedia.jsonl
#       --columns text --val-share 0.001 --tokenizer tokenizer.json
#       --bos '<|begin_of_text|>' --eos '<|end_of_text|>'
# The folder data/wikipedia_tokens then holds train.bin, val.bin, meta.json and the tokenizer.
# Any other text and tokenizer will do, of no more ids than decoder.vocab_size.
data_root = '{{$HYPER_MM_DATA:data}}/wikipedia_tokens'
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='hyper_mm.PackedTokenDataset', data_root=data_root, length=2048, vocab_size=128256
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='hyper_mm.PackedTokenDataset',
        data_root=data_root,
        split='val',
        length=2048,
        vocab_size=128256,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='hyper_mm.Perplexity')
test_evaluator = val_evaluator
