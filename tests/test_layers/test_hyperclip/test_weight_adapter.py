"""Several adapters of a model by name; what is trained after merging; files."""

import copy

import pytest
import torch
from torch import nn

from hyper_mm.layers import (
    FullTuning,
    HyperCLIPAdapter,
    LoRAAdapter,
    TrainedPartsAdapter,
    adapter_names,
    use_adapters,
)
from hyper_mm.layers.hyperclip.adapted_weight import merge_weights

open_clip = pytest.importorskip('open_clip')

from tests.helpers.clip import make_clip  # noqa: E402

KINDS = {
    'hyperclip': lambda **options: HyperCLIPAdapter(4, **options),
    'lora': lambda **options: LoRAAdapter(2, **options),
    'parts': lambda **options: TrainedPartsAdapter('qv', **options),
}


@torch.no_grad()
def outputs(clip):
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    tokens = torch.randint(1, 64, (3, 9), generator=generator)
    return clip.encode_image(images), clip.encode_text(tokens)


def same(found, expected):
    return all(torch.equal(a, b) for a, b in zip(found, expected))


def close(found, expected, rtol=1e-5):
    return all((a - b).norm() <= rtol * b.norm() for a, b in zip(found, expected))


def disturb(adapter, scale=0.1, seed=1):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += scale * torch.randn_like(parameter)


@pytest.fixture
def two():
    """A model with two adapters, and what it computes plainly, with the first, with the second."""
    clip = make_clip()
    results = [outputs(clip)]
    adapters = HyperCLIPAdapter(4, name='coco').attach(clip), LoRAAdapter(2, name='ade')
    disturb(adapters[0])
    results.append(outputs(clip))
    adapters[1].attach(clip)
    disturb(adapters[1], seed=2)
    results.append(outputs(clip))
    return clip, adapters, results


class TestSeveral:
    def test_the_last_one_attached_is_active_and_trains(self, two):
        clip, (coco, ade), results = two
        assert adapter_names(clip) == ['coco', 'ade']
        assert (coco.enabled, ade.enabled) == (False, True)
        own = {id(p) for p in ade.parameters()}
        assert own == {id(p) for p in clip.parameters() if p.requires_grad}
        alone = make_clip()
        again = LoRAAdapter(2).attach(alone)
        again.load_state_dict(ade.state_dict())
        assert same(outputs(alone), results[2])

    def test_switching(self, two):
        clip, _, (plain, coco, ade) = two
        for names, expected in (((), plain), (('coco',), coco), (('ade',), ade)):
            use_adapters(clip, *names)
            assert close(outputs(clip), expected)

    def test_switching_is_seen_by_the_cache(self, two):
        clip, (first, _), (plain, coco, ade) = two
        with first.cached():
            for names, expected in ((('coco',), coco), ((), plain), (('ade',), ade)):
                use_adapters(clip, *names)
                assert close(outputs(clip), expected)

    def test_one_after_the_other(self, two):
        clip, (coco, ade), results = two
        use_adapters(clip, 'ade', 'coco')
        both = outputs(clip)
        assert not any(close(both, alone, 1e-3) for alone in results)
        layer = coco.layers[0]
        place = layer.weights()[0].adapted
        mapped = coco.layers[0].updates['in_proj_weight'](place.original)
        torch.testing.assert_close(place(), ade.layers[0].updates['in_proj_weight'](mapped))
        with pytest.raises(ValueError, match="'ade' must be the first of the active .*'coco', 'ad"):
            ade.merge()
        coco.merge()
        assert close(outputs(clip), both)
        ade.merge()
        assert close(outputs(clip), both)
        assert all(not hasattr(m, 'parametrizations') for m in clip.modules())

    def test_merging_one_leaves_the_other(self, two):
        clip, (coco, ade), (plain, with_coco, with_ade) = two
        ade.merge()
        assert close(outputs(clip), with_ade)
        assert adapter_names(clip) == ['coco']
        ade.unmerge()
        assert adapter_names(clip) == ['ade', 'coco']
        use_adapters(clip, 'coco')
        assert same(outputs(clip), with_coco)
        with pytest.raises(ValueError, match="'ade' must be the first of the active"):
            ade.merge()

    def test_a_copy_keeps_what_is_active(self, two):
        clip, _, (plain, coco, ade) = two
        use_adapters(clip, 'coco')
        copied = copy.deepcopy(clip)
        use_adapters(clip, 'ade')
        assert same(outputs(copied), coco)
        assert same(outputs(clip), ade)

    def test_state_of_the_model(self, two):
        clip, _, results = two
        other = make_clip()
        HyperCLIPAdapter(4, name='coco').attach(other)
        LoRAAdapter(2, name='ade').attach(other)
        other.load_state_dict(clip.state_dict())
        assert same(outputs(other), results[2])

    def test_merge_weights_writes_the_active_ones(self, two):
        clip, _, (plain, coco, ade) = two
        use_adapters(clip, 'coco')
        merge_weights(clip)
        assert close(outputs(clip), coco)
        assert adapter_names(clip) == []

    def test_bad_use(self, two):
        clip, (coco, _), _ = two
        with pytest.raises(ValueError, match=r"names must be some of \['coco', 'ade'\], got 'voc'"):
            use_adapters(clip, 'voc')
        with pytest.raises(ValueError, match='has an adapter already; a second one needs a name'):
            LoRAAdapter(2, name='coco').attach(clip)
        with pytest.raises(ValueError, match="one with target='input' must be alone"):
            HyperCLIPAdapter(4, target='input', name='new').attach(clip)
        alone = make_clip()
        HyperCLIPAdapter(4, target='input').attach(alone)
        with pytest.raises(ValueError, match='has an adapter already'):
            LoRAAdapter(2, name='new').attach(alone)
        with pytest.raises(ValueError, match='has an adapter already'):
            FullTuning().attach(clip)

    @pytest.mark.parametrize('name', ['', 'a.b', 'original', 'cache', 'forward', '0', 'a b'])
    def test_bad_names(self, name):
        with pytest.raises(ValueError, match='name must be of letters'):
            LoRAAdapter(2, name=name)


@pytest.mark.parametrize('make', [*KINDS.values(), lambda: FullTuning()], ids=[*KINDS, 'full'])
class TestTrainable:
    def test_after_merging(self, make):
        for trainable in ('none', 'before', 'all'):
            clip = make_clip()
            clip.visual.conv1.requires_grad_(False)
            adapter = make().attach(clip)
            adapter.merge(trainable=trainable)
            trained = {n for n, p in clip.named_parameters() if p.requires_grad}
            every = {n for n, _ in clip.named_parameters()}
            expected = dict(none=set(), before=every - {'visual.conv1.weight'}, all=every)
            assert trained == expected[trainable]
            adapter.unmerge()
            own = {id(p) for p in adapter.parameters()}
            assert own == {id(p) for p in clip.parameters() if p.requires_grad}

    def test_bad_choice(self, make):
        adapter = make().attach(make_clip())
        with pytest.raises(ValueError, match='trainable must be one of .* got .adapter.'):
            adapter.merge(trainable='adapter')
        assert not adapter.merged

    def test_merged_or_not_attached(self, make):
        adapter = make()
        assert 'not attached' in repr(adapter)
        with pytest.raises(ValueError, match='not attached'):
            adapter.enabled = False
        adapter.attach(make_clip())
        with pytest.raises(ValueError, match='is not merged'):
            adapter.unmerge()
        with adapter.disabled(), pytest.raises(ValueError, match='active'):
            adapter.merge()
        adapter.merge()
        with pytest.raises(ValueError, match='merged already'):
            adapter.merge()
        with pytest.raises(ValueError, match='unmerge it first'):
            adapter.enabled = True
        assert 'merged' in repr(adapter) or isinstance(adapter, FullTuning)


class TestShare:
    def test_numbers(self):
        clip = make_clip()
        base = sum(p.numel() for p in clip.parameters())
        adapter = LoRAAdapter(2, projections='qv').attach(clip)
        own = 2 * 2 * 2 * (3 * 32 + 2 * 24)
        assert adapter.trained_share() == (own, base)
        assert f'{own:,} parameters, {own / base:.2%} of the model' in repr(adapter)

    def test_full_tuning_of_one_tower(self):
        clip = make_clip()
        adapter = FullTuning(towers=('text',)).attach(clip)
        trained = {n for n, p in clip.named_parameters() if p.requires_grad}
        vision = {n for n, _ in clip.named_parameters() if n.startswith('visual.')}
        assert trained == {n for n, _ in clip.named_parameters()} - vision - {'logit_scale'}
        own, everything = adapter.trained_share()
        assert own < everything == sum(p.numel() for p in clip.parameters())


class TestFiles:
    @pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
    @pytest.mark.parametrize('make', KINDS.values(), ids=KINDS)
    def test_a_checkpoint_at_construction(self, make, suffix, tmp_path):
        if suffix == 'safetensors':
            pytest.importorskip('safetensors')
        clip, other = make_clip(), make_clip()
        adapter = make().attach(clip)
        disturb(adapter)
        adapter.save(tmp_path / f'adapter.{suffix}')
        make(checkpoint=tmp_path / f'adapter.{suffix}', name='loaded').attach(other)
        assert same(outputs(other), outputs(clip))

    def test_full_tuning(self, tmp_path):
        clip, other = make_clip(), make_clip()
        adapter = FullTuning().attach(clip)
        disturb(adapter, 0.01)
        adapter.save(tmp_path / 'full.pth')
        loaded = FullTuning(checkpoint=tmp_path / 'full.pth').attach(other)
        assert same(outputs(other), outputs(clip))
        with loaded.disabled():
            assert same(outputs(other), outputs(make_clip()))
        with pytest.raises(ValueError, match="towers=.*'text', 'vision'"):
            FullTuning(('text',), tmp_path / 'full.pth').attach(make_clip())

    def test_other_options_and_other_kinds(self, tmp_path):
        file = tmp_path / 'adapter.pth'
        LoRAAdapter(2, alpha=4.0).attach(make_clip()).save(file)
        with pytest.raises(ValueError, match='scale=2.0, the model has scale=4.0'):
            LoRAAdapter(2, alpha=8.0, checkpoint=file).attach(make_clip())
        with pytest.raises(ValueError, match="adapter='lora', the model has adapter='parts'"):
            TrainedPartsAdapter(checkpoint=file).attach(make_clip())
        with pytest.raises(ValueError, match=r'there is no .*nothing\.pth'):
            LoRAAdapter(2, checkpoint=tmp_path / 'nothing.pth')

    @pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
    def test_files_of_something_else(self, suffix, tmp_path):
        file = tmp_path / f'junk.{suffix}'
        file.write_text('no tensors')
        with pytest.raises(ValueError, match=rf"junk\.{suffix}' is no file of an adapter"):
            LoRAAdapter(2, checkpoint=file).attach(make_clip())
        torch.save([1], tmp_path / 'list.pth')
        model = make_clip()
        before = {name: p.requires_grad for name, p in model.named_parameters()}
        adapter = LoRAAdapter(2, checkpoint=tmp_path / 'list.pth')
        with pytest.raises(ValueError, match="list.pth' is no file of an adapter: it holds a list"):
            adapter.attach(model)
        assert before == {name: p.requires_grad for name, p in model.named_parameters()}
        assert adapter.model is None and adapter_names(model) == [] and not adapter.layers
        with pytest.raises(ValueError, match="list.pth' is no file of an adapter"):
            FullTuning(checkpoint=tmp_path / 'list.pth').attach(model)
        assert before == {name: p.requires_grad for name, p in model.named_parameters()}
        LoRAAdapter(2).attach(model)

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(checkpoint=3), 'checkpoint must be a path or None, got 3'),
            (dict(name=3), 'name must be a string, got 3'),
            (dict(layers=-1), 'layers must be'),
        ],
    )
    def test_options_of_other_types(self, options, message):
        with pytest.raises(TypeError, match=message):
            LoRAAdapter(2, **options)


def test_layers_of_lora():
    model = nn.Sequential(nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 2))
    adapter = LoRAAdapter(2, layers=(-1,)).attach(model)
    assert [layer.name for layer in adapter.layers] == ['1']
    with pytest.raises(ValueError, match='layers must be numbers below 2'):
        LoRAAdapter(2, layers=(2,), name='x').attach(model)


def test_the_page_of_plain_pytorch(tmp_path, monkeypatch):
    """docs/hyperclip.md: adapt, train, save, load, merge."""
    pytest.importorskip('transformers')
    from tests.helpers.documents import DOCUMENTS, blocks

    page = next(path for path in DOCUMENTS if path.name == 'hyperclip.md')
    (code,) = [b.text for b in blocks(page) if 'transformers' in b.text and b.language == 'python']
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    exec(compile(code, str(page), 'exec'), space)
    assert repr(space['adapter']).startswith('HyperCLIPAdapter(4 layers, 12,288 parameters')
    assert (tmp_path / 'adapter.safetensors').stat().st_size < 60_000
    assert space['again'].merged
    assert len(code.splitlines()) <= 26
