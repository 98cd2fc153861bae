"""The converter of Omniglot."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.fuzz import FAST, changed, reads
from tests.helpers.tools import load_tool

PNG = b'\x89PNG\r\n\x1a\n'


@pytest.fixture(scope='module')
def tool():
    return load_tool('dataset_converters/omniglot.py')


@pytest.fixture
def archive(tmp_path) -> Path:
    """Two alphabets with two characters of five images; images of characters share names."""
    path = tmp_path / 'images.zip'
    with zipfile.ZipFile(path, 'w') as file:
        for alphabet in ('Greek', 'Latin'):
            for character in ('character01', 'character02'):
                for i in range(5):
                    name = f'top/{alphabet}/{character}/{i:02}.png'
                    file.writestr(name, PNG + f'{alphabet} {character} {i}'.encode())
        file.writestr('__MACOSX/top/Greek/character01/._00.png', 'Mac OS X')
        file.writestr('top/readme.txt', 'text')
    return path


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_bytes().removeprefix(PNG).decode()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def test_alphabets(tool, archive, tmp_path):
    counts = tool.convert(archive, tmp_path / 'out')
    assert counts == dict(train=16, val=4)
    found = files(tmp_path / 'out')
    assert len(set(found.values())) == len(found) == 20
    for path, content in found.items():
        split, alphabet, name = path.split('/')
        assert split in ('train', 'val') and content.startswith(alphabet)
        assert name.split('_')[0] == content.split()[1]
    assert len([path for path in found if path.startswith('val/Greek/character01_')]) == 1


def test_characters(tool, archive, tmp_path):
    tool.convert(archive, tmp_path / 'out', classes='characters', val_fraction=0.4)
    folders = sorted(path.name for path in (tmp_path / 'out' / 'val').iterdir())
    assert folders == [f'{a}_character0{i}' for a in ('Greek', 'Latin') for i in (1, 2)]
    assert all(len(list((tmp_path / 'out' / 'val' / name).iterdir())) == 2 for name in folders)


def test_split_depends_on_the_seed_alone(tool, archive, tmp_path):
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        tool.convert(archive, tmp_path / name, seed=seed)
    a, b, c = (files(tmp_path / name) for name in 'abc')
    assert a == b and a.keys() != c.keys() and sorted(a.values()) == sorted(c.values())


def test_bad_arguments(tool, archive, tmp_path):
    out = tmp_path / 'out'
    with pytest.raises(ValueError, match='classes must be one of'):
        tool.convert(archive, out, classes='letters')
    with pytest.raises(ValueError, match=r'val_fraction must be in \(0, 1\), got 0'):
        tool.convert(archive, out, val_fraction=0)
    (tmp_path / 'text.txt').write_text('text')
    with pytest.raises(ValueError, match='source must be a zip'):
        tool.convert(tmp_path / 'text.txt', out)
    with zipfile.ZipFile(tmp_path / 'other.zip', 'w') as file:
        file.writestr('readme.txt', 'text')
    with pytest.raises(ValueError, match='must hold paths <alphabet>'):
        tool.convert(tmp_path / 'other.zip', out)
    with zipfile.ZipFile(tmp_path / 'single.zip', 'w') as file:
        file.writestr('a/b/c.png', '')
    with pytest.raises(ValueError, match='got one of a/b'):
        tool.convert(tmp_path / 'single.zip', out)
    assert not out.exists()
    tool.convert(archive, out)
    with pytest.raises(FileExistsError, match='train is not empty'):
        tool.convert(archive, out)


def pack(path, *members):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
        for i, (name, content) in enumerate(members):
            file.writestr(name, PNG + str(i).encode() if content is None else content)
    return path


@pytest.mark.parametrize(
    'name', ['/a/b.png', '/etc/x/y.png', '../a/b/c.png', 'a/../../../b/c.png', 'C:/a/b/c.png']
)
def test_members_outside_the_folder(tool, tmp_path, name):
    source = pack(tmp_path / 'x.zip', ('a/b/1.png', None), ('a/b/2.png', None), (name, None))
    with pytest.raises(ValueError, match=r'x\.zip, .*: a path must stay below its folder'):
        tool.convert(source, tmp_path / 'out')
    assert {path.name for path in tmp_path.iterdir()} == {'x.zip'}


def test_an_image_is_not_in_training_and_validation_at_once(tool, tmp_path):
    same = PNG + b'same'
    for members, message in (
        ([('a/b/1.png', None), ('copy/a/b/1.png', None)], 'are the same image by name'),
        ([('a/b/1.png', None), ('a/b/1.png', None)], 'are the same image by name'),
        ([('a/b/c_1.png', None), ('a/b_c/1.png', None)], 'are the same image by name'),
        ([('a/b/1.png', same), ('a/b/2.png', same)], 'hold the same image'),
        ([('a/b/1.png', same), ('a/b/2.png', None), ('a/c/2.png', same)], 'hold the same image'),
        ([('a/b/1.png', None), ('a/b/2.png', b'text')], 'a/b/2.png is no PNG image'),
    ):
        source = pack(tmp_path / 'x.zip', *members, ('a/c/8.png', None), ('a/c/9.png', None))
        with pytest.raises(ValueError, match=message):
            tool.convert(source, tmp_path / 'out')
        assert not (tmp_path / 'out').exists()


def test_archives_that_would_fill_the_disk(tool, tmp_path):
    big = PNG + bytes(2 << 20)
    source = pack(tmp_path / 'x.zip', ('a/b/1.png', None), ('a/b/2.png', big))
    assert source.stat().st_size < 10000
    with pytest.raises(ValueError, match='x.zip, a/b/2.png: an image may have 1048576 bytes'):
        tool.convert(source, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@given(data=st.data())
@FAST
def test_damaged_archives(tool, archive, tmp_path, data):
    source = tmp_path / 'damaged.zip'
    source.write_bytes(data.draw(changed(archive.read_bytes())))
    shutil.rmtree(tmp_path / 'out', ignore_errors=True)
    reads(lambda: tool.convert(source, tmp_path / 'out'), 'damaged.zip')
    assert {path.name for path in tmp_path.iterdir()} <= {'damaged.zip', 'images.zip', 'out'}


def test_command_line(tool, archive, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['omniglot.py', str(archive), str(tmp_path / 'out')])
    tool.main()
    printed = capsys.readouterr().out
    assert printed == f'16 images in {tmp_path}/out/train, 4 images in {tmp_path}/out/val\n'
    with pytest.raises(SystemExit):
        tool.main()
    assert 'is not empty' in capsys.readouterr().err


@pytest.mark.mmpretrain
def test_mmpretrain_reads_real_data(tool, data_dir, tmp_path):
    datasets = pytest.importorskip('mmpretrain.datasets')
    sources = sorted((data_dir / 'omniglot').glob('*.zip'))
    if not sources:
        pytest.skip(f'no zip in {data_dir / "omniglot"}')
    counts = tool.convert(sources[0], tmp_path)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmpretrain.PackInputs')]
    for split, count in counts.items():
        dataset = datasets.CustomDataset(
            data_root=str(tmp_path), data_prefix=split, pipeline=pipeline
        )
        assert len(dataset) == count
    assert dataset[0]['inputs'].shape == (3, 105, 105)
    assert len(dataset.metainfo['classes']) >= 2


@pytest.fixture
def drawings(tmp_path) -> Path:
    """Three alphabets with two characters of three drawings."""
    import io

    from PIL import Image

    path = tmp_path / 'drawings.zip'
    with zipfile.ZipFile(path, 'w') as file:
        for a, alphabet in enumerate(('Greek', 'Korean', 'Latin')):
            for character in ('character01', 'character02'):
                for i in range(3):
                    image = Image.new('L', (10, 10), 255)
                    image.putpixel((a + 1, i + 3 * int(character[-1])), 0)
                    content = io.BytesIO()
                    image.save(content, 'PNG')
                    name = f'top/{alphabet}/{character}/{i:02}.png'
                    file.writestr(name, content.getvalue())
    return path


def test_held_out_alphabets(tool, drawings, tmp_path):
    from PIL import Image

    out = tmp_path / 'out'
    counts = tool.convert_held_out(
        drawings, out, dict(val='Greek', test='Korean'), size=5, rotations=True
    )
    assert counts == dict(train=24, val=6, test=6)
    names = {split: sorted(x.name for x in (out / split).iterdir()) for split in counts}
    assert names['val'] == ['Greek_character01', 'Greek_character02']
    assert names['train'] == [
        f'Latin_character0{k}{turn}'
        for k in (1, 2)
        for turn in ('', '_rot180', '_rot270', '_rot90')
    ]
    image = Image.open(out / 'train/Latin_character01/00.png')
    turned = Image.open(out / 'train/Latin_character01_rot90/00.png')
    assert image.size == (5, 5) and turned.tobytes() == image.rotate(90).tobytes()
    assert image.tobytes() != turned.tobytes()


def test_held_out_refuses(tool, drawings, tmp_path):
    out = tmp_path / 'out'
    for held_out in (
        {},
        dict(train='Greek'),
        dict(val='Greek', test='Greek,Latin'),
        dict(val='Greeek'),
        dict(val='Greek,Korean,Latin'),
    ):
        with pytest.raises(ValueError, match='held'):
            tool.convert_held_out(drawings, out, held_out)
    with pytest.raises(ValueError, match='size'):
        tool.convert_held_out(drawings, out, dict(val='Greek'), size=0)
    assert not out.exists()
    tool.convert_held_out(drawings, out, dict(val='Greek'))
    with pytest.raises(FileExistsError):
        tool.convert_held_out(drawings, out, dict(val='Greek'))


def test_held_out_command(tool, drawings, tmp_path, monkeypatch, capsys):
    words = [str(drawings), str(tmp_path / 'out'), '--held-out', 'val=Greek']
    monkeypatch.setattr(sys, 'argv', ['omniglot.py', *words])
    tool.main()
    assert '6 images in' in capsys.readouterr().out
    for wrong in (['--size', '5'], ['--held-out', 'Greek'], ['--held-out', 'a=Greek', 'a=Latin']):
        monkeypatch.setattr(sys, 'argv', ['omniglot.py', *words[:2], *wrong])
        with pytest.raises(SystemExit):
            tool.main()
