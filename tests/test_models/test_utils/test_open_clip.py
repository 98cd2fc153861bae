import copy
from contextlib import contextmanager

import pytest
import torch

open_clip = pytest.importorskip('open_clip')

from mmengine.config import ConfigDict  # noqa: E402

from hyper_mm.models.utils.open_clip import (  # noqa: E402
    _of_one_length,
    build_open_clip,
    encode_text,
    needs_quick_gelu,
    tokenize,
)

SMALL = dict(
    embed_dim=16,
    quick_gelu=True,
    vision_cfg=dict(image_size=32, layers=2, width=32, head_width=8, patch_size=8),
    text_cfg=dict(context_length=77, vocab_size=49408, width=24, heads=3, layers=2),
)
TEXTS = ['a cat', 'a photo of a large sofa in the scene', 'sky', 'x' * 60, 'dog']


@pytest.fixture(scope='module')
def clip():
    torch.manual_seed(0)
    return build_open_clip(SMALL)


class TestBuild:
    def test_random_towers_of_a_dict(self, clip):
        assert type(clip) is open_clip.CLIP
        assert clip.visual.positional_embedding.shape == (17, 32)
        assert clip.transformer.layers == 2

    @pytest.mark.parametrize('kind', [dict, ConfigDict])
    def test_dict_is_not_changed(self, kind):
        config = kind(copy.deepcopy(SMALL))
        build_open_clip(config, image_size=64)
        assert config == SMALL

    def test_pretrained_path_and_resized_positions(self, clip, tmp_path):
        path = tmp_path / 'clip.pt'
        torch.save(clip.state_dict(), path)
        same = build_open_clip(SMALL, str(path))
        for name, value in clip.state_dict().items():
            torch.testing.assert_close(same.state_dict()[name], value)
        larger = build_open_clip(SMALL, str(path), image_size=64)
        assert larger.visual.positional_embedding.shape == (65, 32)
        torch.testing.assert_close(
            larger.visual.positional_embedding[0], clip.visual.positional_embedding[0]
        )
        torch.testing.assert_close(larger.token_embedding.weight, clip.token_embedding.weight)

    def test_name(self):
        model = build_open_clip('ViT-S-32-alt', pretrained='', image_size=96)
        assert model.visual.positional_embedding.shape == (10, 384)

    @pytest.mark.parametrize(
        ('name', 'tag', 'needed'),
        [
            ('ViT-B-32', 'openai', True),
            ('ViT-B-32-quickgelu', 'openai', True),
            ('ViT-B-32', 'laion2b_s34b_b79k', False),
            ('ViT-B-32', None, False),
            ('ViT-B-32', 'some/path.pt', False),
        ],
    )
    def test_activation_is_that_of_the_weights(self, name, tag, needed):
        assert needs_quick_gelu(name, tag) == needed

    @pytest.mark.parametrize('precision', ['fp16', 'bf16'])
    def test_precision(self, precision):
        model = build_open_clip(SMALL, precision=precision)
        dtype = dict(fp16=torch.float16, bf16=torch.bfloat16)[precision]
        block = model.visual.transformer.resblocks[0]
        assert block.attn.in_proj_weight.dtype == model.visual.proj.dtype == dtype
        assert block.ln_1.weight.dtype == torch.float32

    @pytest.mark.parametrize(
        ('arguments', 'error', 'message'),
        [
            (dict(model=3), TypeError, 'name or a dict, got int'),
            (dict(model='ViT-Q-16'), ValueError, "'ViT-Q-16' is not known"),
            (dict(model='ViT-B-16', pretrained='no_tag'), ValueError, "got 'no_tag'"),
            (dict(model=SMALL, pretrained='openai'), ValueError, "file .* got 'openai'"),
            (dict(model=dict(embed_dim=4)), ValueError, 'lacks .*text_cfg.*vision_cfg'),
            (dict(model=SMALL, precision='int8'), ValueError, "precision .* got 'int8'"),
            (dict(model='coca_ViT-B-32'), ValueError, 'two towers, got .*coca_ViT-B-32.*CoCa'),
            (dict(model='ViT-B-61'), ValueError, "did you mean 'ViT-B-16"),
        ],
    )
    def test_bad_input(self, arguments, error, message):
        with pytest.raises(error, match=message):
            build_open_clip(**arguments)


class TestTokenize:
    def test_equals_open_clip(self):
        torch.testing.assert_close(tokenize(TEXTS), open_clip.tokenize(TEXTS))

    def test_context_length(self):
        tokens = tokenize(['a cat'], context_length=8)
        assert tokens.shape == (1, 8)
        assert tokens[0, 4:].eq(0).all()

    def test_full_context_fits_and_one_more_does_not(self):
        assert tokenize(['cat ' * 75])[0, -1] == 49407
        with pytest.raises(ValueError, match="at most 77 tokens.*got 78: 'cat"):
            tokenize(['dog', 'cat ' * 76])

    def test_empty(self):
        with pytest.raises(ValueError, match="empty, got ' '"):
            tokenize(['cat', ' '])
        assert tokenize([''], allow_empty=True)[0, :3].tolist() == [49406, 49407, 0]
        assert tokenize([]).shape == (0, 77)

    @pytest.mark.parametrize('texts', ['a cat', ['a cat', 3]])
    def test_bad_type(self, texts):
        with pytest.raises(TypeError, match='texts must be'):
            tokenize(texts)


@contextmanager
def forward_counted(block, passes):
    """Adds the texts and positions of each pass through a block to a list."""
    handle = block.register_forward_pre_hook(lambda _, args: passes.append(args[0].shape[:2]))
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ('lengths', 'most', 'more', 'expected'),
    [
        ([], 4, True, [[]]),
        ([10, 11, 10, 12], 64, True, [[0, 1, 2, 3]]),
        ([9, 40, 9, 41], 64, True, [[0, 2], [1, 3]]),
        ([9, 40, 9, 41], 64, False, [[0, 1, 2, 3]]),
        ([9, 40, 9, 41], 2, False, [[0, 2], [1, 3]]),
        ([9, 9, 10, 9, 9], 2, True, [[0, 1], [2, 3], [4]]),
        ([0, 0], 4, True, [[0, 1]]),
    ],
)
def test_groups_of_one_length(lengths, most, more, expected):
    assert _of_one_length(lengths, most, more) == expected


class TestEncodeText:
    def test_equals_open_clip(self, clip):
        tokens = tokenize(TEXTS)
        torch.testing.assert_close(
            encode_text(clip, tokens), clip.encode_text(tokens), rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize('chunk', [1, 2, 5, 9])
    def test_chunks_equal_the_whole(self, clip, chunk):
        tokens = tokenize(TEXTS)
        torch.testing.assert_close(
            encode_text(clip, tokens, chunk=chunk), encode_text(clip, tokens), rtol=1e-5, atol=1e-6
        )

    def test_checkpointed_gradients_equal_open_clip_s(self, clip):
        clip, tokens = copy.deepcopy(clip).double(), tokenize(TEXTS)
        cot = torch.randn(len(TEXTS), 16, dtype=torch.float64)
        parameters = {n: p for n, p in clip.named_parameters() if 'visual' not in n}
        expected = torch.autograd.grad(
            (clip.encode_text(tokens) * cot).sum(), parameters.values(), allow_unused=True
        )
        features = encode_text(clip, tokens, chunk=2, checkpoint=True)
        found = torch.autograd.grad((features * cot).sum(), parameters.values(), allow_unused=True)
        for name, a, b in zip(parameters, found, expected):
            if b is None:
                assert a is None, name
            else:
                torch.testing.assert_close(a, b, msg=name)

    def test_checkpointing_keeps_fewer_activations(self, clip):
        tokens = tokenize(TEXTS)
        saved = {}
        for checkpoint in (False, True):
            sizes = []
            with torch.autograd.graph.saved_tensors_hooks(
                lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
            ):
                encode_text(clip, tokens, chunk=2, checkpoint=checkpoint)
            saved[checkpoint] = sum(sizes)
        assert saved[True] < 0.05 * saved[False]

    def test_one_chunk_is_not_computed_again(self, clip):
        """It would save no memory in the backward pass, and a pass through the tower costs time."""
        tokens, passes = tokenize(['a cat', 'a dog', 'a bat', 'a cow']), []
        with forward_counted(clip.transformer.resblocks[0], passes):
            encode_text(clip, tokens, chunk=4, checkpoint=True).sum().backward()
            assert len(passes) == 1
            encode_text(clip, tokens, chunk=2, checkpoint=True).sum().backward()
            assert len(passes) == 1 + 2 * 2

    def test_texts_of_a_length_go_together_and_come_back_in_order(self, clip):
        texts = ['cat ' * (1 + 30 * (i % 2)) + f'{i}' for i in range(12)]
        tokens, passes = tokenize(texts), []
        with forward_counted(clip.transformer.resblocks[0], passes):
            found = encode_text(clip, tokens, chunk=6)
        assert passes == [(6, 5), (6, 35)]
        torch.testing.assert_close(found, clip.encode_text(tokens), rtol=1e-5, atol=1e-6)

    def test_without_gradients(self, clip):
        with torch.no_grad():
            assert not encode_text(clip, tokenize(TEXTS), checkpoint=True).requires_grad

    def test_tower_that_is_not_causal(self):
        config = {**SMALL, 'text_cfg': {**SMALL['text_cfg'], 'no_causal_mask': True}}
        clip, tokens = build_open_clip(config), tokenize(TEXTS)
        torch.testing.assert_close(encode_text(clip, tokens, chunk=2), clip.encode_text(tokens))

    def test_bfloat16(self):
        clip = build_open_clip(SMALL, precision='bf16')
        features = encode_text(clip, tokenize(TEXTS), chunk=2)
        assert features.dtype == torch.bfloat16
        assert features.isfinite().all()

    @pytest.mark.parametrize(
        ('shape', 'chunk', 'message'),
        [((2, 20), None, r'\(N, 77\), got \(2, 20\)'), ((2, 77), 0, 'chunk .* got 0')],
    )
    def test_bad_input(self, clip, shape, chunk, message):
        with pytest.raises(ValueError, match=message):
            encode_text(clip, torch.zeros(shape, dtype=torch.long), chunk=chunk)
