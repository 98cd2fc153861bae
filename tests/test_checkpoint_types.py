"""Files that try to run code or to reach memory, in every form of torch's, by both readers."""

from __future__ import annotations

import gc
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.logging import HistoryBuffer  # noqa: E402

from hyper_mm import checkpoint_types, checkpoints  # noqa: E402

STATISTICS = dict(HistoryBuffer('x' * 0, 'x' * 0)._statistics_methods)

# an assembler of pickles of protocol 2


class Raw(bytes):
    """Instructions that leave one object on the stack."""


def put(value) -> Raw:
    """Instructions for a plain value or for what they are already."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, (tuple, list)):
        return sequence(value, b't' if isinstance(value, tuple) else b'l')
    if isinstance(value, dict):
        pairs = b''.join(put(k) + put(v) for k, v in value.items())
        return Raw(pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS)
    if isinstance(value, bytes):
        return call(glob('_codecs', 'encode'), value.decode('latin1'), 'latin1')
    return Raw(pickle.dumps(value, 2)[2:-1])


def sequence(values, code) -> Raw:
    inside = b''.join(put(value) for value in values)
    if code == b't':
        return Raw(pickle.MARK + inside + pickle.TUPLE)
    return Raw(pickle.EMPTY_LIST + pickle.MARK + inside + pickle.APPENDS)


def glob(module: str, name: str) -> Raw:
    return Raw(pickle.GLOBAL + f'{module}\n{name}\n'.encode())


def call(function: Raw, *args) -> Raw:
    return Raw(function + put(args) + pickle.REDUCE)


def new(kind: Raw, *args) -> Raw:
    return Raw(kind + put(args) + pickle.NEWOBJ)


def build(target: Raw, state) -> Raw:
    return Raw(target + put(state) + pickle.BUILD)


NDARRAY, DTYPE = glob('numpy', 'ndarray'), glob('numpy', 'dtype')
RECONSTRUCT = glob('numpy._core.multiarray', '_reconstruct')
SCALAR, GETATTR = glob('numpy._core.multiarray', 'scalar'), glob('builtins', 'getattr')
HISTORY = glob('mmengine.logging.history_buffer', 'HistoryBuffer')
CONFIG = glob('mmengine.config.config', 'ConfigDict')
ONE_CYCLE = glob('mmengine.optim.scheduler.param_scheduler', 'OneCycleParamScheduler')


def dtype(code='f8', order='<', sizes=(-1, -1, 0)) -> Raw:
    return build(call(DTYPE, code, False, True), (3, order, None, None, None, *sizes))


def empty() -> Raw:
    return call(RECONSTRUCT, NDARRAY, (0,), b'b')


def array(shape=(1,), kind=None, data=b'A' * 8, fortran=False, version=1) -> Raw:
    return build(empty(), (version, shape, kind or dtype(), fortran, data))


def history(log=None, **state) -> Raw:
    logs = dict(_log_history=log or array(), _count_history=array())
    return build(new(HISTORY), dict(max_length=10, **{**logs, **state}))


BAD_TEXT = struct.pack('<I', 0x7FFFFFFF)
TEXT = dtype('U1', sizes=(4, 4, 8))
GADGETS = {
    'array of objects over bytes': call(NDARRAY, (1,), 'O', b'A' * 8),
    'the same in a history': history(call(NDARRAY, (1,), 'O', b'A' * 8)),
    'array by NEWOBJ': new(NDARRAY, (1,), 'O', b'A' * 8),
    'array over a bytearray': call(NDARRAY, (9,), 'f8', call(glob('builtins', 'bytearray'), b'A')),
    'array with strides': call(NDARRAY, (9,), 'f8', b'A' * 8, 0, (-4096,)),
    'array with an offset': call(NDARRAY, (1,), 'f8', b'A' * 8, -64),
    'array of uninitialized memory': call(NDARRAY, (4096,), 'f8'),
    'dtype O': call(DTYPE, 'O', False, True),
    'dtype O8': array(kind=call(DTYPE, 'O8', False, True)),
    'dtype of the class object': call(DTYPE, glob('builtins', 'object')),
    'dtype V8': call(DTYPE, 'V8', False, True),
    'dtype M8[ns]': call(DTYPE, 'M8[ns]', False, True),
    'dtype of a comma list': call(DTYPE, 'f8,O', False, True),
    'dtype with a shape': call(DTYPE, '(2,2)f8', False, True),
    'dtype of fields': call(DTYPE, [('a', 'O')]),
    'dtype of a dictionary': call(DTYPE, dict(names=['a'], formats=['O'], offsets=[-8])),
    'dtype of no size that there is': call(DTYPE, 'f3', False, True),
    'dtype of huge text': call(DTYPE, 'U99999999999', False, True),
    'dtype by NEWOBJ': new(DTYPE, 'O'),
    'state of a dtype with fields': build(
        call(DTYPE, 'f8', False, True), (3, '<', None, ('a',), {'a': (dtype(), 0)}, 8, 1, 0)
    ),
    'state of a dtype with reference counts': array(kind=dtype(sizes=(-1, -1, 63))),
    'state of a dtype with a size': array(kind=dtype(sizes=(4096, 1, 0))),
    'state of a dtype with negative size': array(kind=dtype('U1', sizes=(-4, 4, 8))),
    'state of a dtype with metadata': build(
        call(DTYPE, 'f8', False, True), (4, '<', None, None, None, -1, -1, 0, {})
    ),
    'state of a dtype with a base': build(
        call(DTYPE, 'f8', False, True), (3, '<', (dtype(), (2,)), None, None, -1, -1, 0)
    ),
    'class of a dtype': build(new(glob('numpy.dtypes', 'Float64DType')), (3, '<', 63)),
    'array of objects by state': array(kind=call(DTYPE, 'O', False, True), data=[1]),
    'array with a list for bytes': array(data=[1.0]),
    'negative shape': array((-1,)),
    'negative shape of positive size': array((-1, -1)),
    'huge shape': array((2**40,)),
    'shape whose size overflows': array((2**62, 4, 2)),
    'shape whose size is zero modulo 2^64': array((2**32, 2**32), data=b''),
    'huge shape of nothing': array((2**61,), dtype('U0', sizes=(0, 4, 8)), b''),
    'shape of floats': array((1.0,)),
    'shape of an array': array((array(),)),
    'shape of 4096 dimensions': array((1,) * 4096),
    'too few bytes': array(data=b'A' * 7),
    'too many bytes': array(data=b'A' * 9),
    'text for bytes': array(data='A' * 8),
    'bytearray for bytes': array(data=call(glob('builtins', 'bytearray'), b'A' * 8)),
    'NumPy class for a dtype': array(kind=DTYPE),
    'state of another version': array(version=0),
    'state twice': build(array(), (1, (1,), dtype(), False, b'A' * 8)),
    'state of one entry': build(empty(), ((1,),)),
    'reconstruct with a shape': call(RECONSTRUCT, NDARRAY, (4096,), b'b'),
    'reconstruct objects': call(RECONSTRUCT, NDARRAY, (0,), b'O'),
    'reconstruct memmap': call(RECONSTRUCT, glob('numpy', 'memmap'), (0,), b'b'),
    'reconstruct recarray': call(RECONSTRUCT, glob('numpy', 'recarray'), (0,), b'b'),
    'reconstruct a list': call(RECONSTRUCT, glob('builtins', 'list'), (0,), b'b'),
    'reconstruct history': call(RECONSTRUCT, HISTORY, (0,), b'b'),
    'scalar of an object': call(SCALAR, call(DTYPE, 'O', False, True), b'A' * 8),
    'scalar of too few bytes': call(SCALAR, dtype(), b'A' * 3),
    'scalar of an array': call(SCALAR, dtype(), array()),
    'scalar without a dtype': call(SCALAR, NDARRAY, b'A' * 8),
    'text of no characters': array(kind=TEXT, data=BAD_TEXT),
    'scalar of no character': call(SCALAR, TEXT, BAD_TEXT),
    'getattr of ndarray': call(GETATTR, NDARRAY, '__new__'),
    'getattr of a history': call(GETATTR, HISTORY, '__init__'),
    'getattr of an instance': call(GETATTR, history(), 'mean'),
    'getattr of a method': call(GETATTR, call(GETATTR, HISTORY, 'mean'), '__globals__'),
    'getattr of a scheduler': call(GETATTR, ONE_CYCLE, '__init__'),
    'getattr of one argument': call(GETATTR, HISTORY),
    'call of a history': call(HISTORY, [1], [1]),
    'call of a method of history': call(call(GETATTR, HISTORY, 'mean'), history()),
    'call of a scheduler': call(ONE_CYCLE, None),
    'scheduler by NEWOBJ': build(new(ONE_CYCLE), dict(a=1)),
    'statistics of others': history(statistics_methods=dict(mean=glob('_codecs', 'encode'))),
    'statistics under another name': history(
        statistics_methods=dict(mean=call(GETATTR, HISTORY, 'min'))
    ),
    'method in a history': history(update=glob('_codecs', 'encode')),
    'history of a list': history(put([1.0])),
    'history of text': history(array(kind=TEXT, data=b'A\0\0\0')),
    'history filled twice': build(history(), dict(max_length=1)),
    'state of a function': build(glob('_codecs', 'encode'), (None, {'__defaults__': ()})),
    'state of a class': build(HISTORY, (None, dict(mean=glob('_codecs', 'encode')))),
    'state of a ConfigDict': build(call(CONFIG, {}), (None, dict(items=1))),
    'entry of an array': Raw(array() + put(0) + put(1.0) + pickle.SETITEM),
    'entry of a history': Raw(history() + put('a') + put(1) + pickle.SETITEM),
    'append to an array': Raw(array() + put(1.0) + pickle.APPEND),
    'append to a history': Raw(history() + pickle.MARK + put(1.0) + pickle.APPENDS),
    'nested in a ConfigDict': call(CONFIG, dict(a=[(new(NDARRAY, (1,), 'O', b'A' * 8),)])),
    'nested in the state of a dictionary': build(
        call(glob('collections', 'OrderedDict')), dict(a=call(NDARRAY, (1,), 'O', b'A' * 8))
    ),
    'INST': Raw(b'(' + put('true') + b'ios\nsystem\n'),
    'OBJ': Raw(b'(' + glob('numpy', 'ndarray') + put((1,)) + put('O') + put(b'A' * 8) + b'o'),
    'EXT1': Raw(b'\x82\x01'),
    'EXT2': Raw(b'\x83\x01\x01'),
    'EXT4': Raw(b'\x84\x01\x01\x01\x01'),
    'NEWOBJ_EX': Raw(NDARRAY + put(((1,), 'O')) + put(dict(buffer=b'A' * 8)) + b'\x92'),
    'STACK_GLOBAL': Raw(put('os') + put('system') + b'\x93' + put(('true',)) + pickle.REDUCE),
    'PERSID': Raw(b'Pos.system\n'),
    'BINPERSID of text': Raw(put('storage') + pickle.BINPERSID),
    'BINPERSID of a module': Raw(put(('module', NDARRAY, 'a', 'b')) + pickle.BINPERSID),
    'BINPERSID of an array type': Raw(put(('storage', NDARRAY, '0', 'cpu', 9)) + pickle.BINPERSID),
    'memo that is empty': Raw(b'h\x63'),
    'stack that is empty': Raw(pickle.REDUCE),
    'numpy.load': call(glob('numpy', 'load'), '/etc/passwd'),
    'numpy.frombuffer': call(glob('numpy', 'frombuffer'), b'A' * 8, 'O'),
    'numpy.fromfile': call(glob('numpy', 'fromfile'), '/etc/passwd'),
    'numpy.memmap': call(glob('numpy', 'memmap'), '/etc/passwd'),
    'as_strided': call(glob('numpy.lib.stride_tricks', 'as_strided'), array(), (9,), (-8,)),
    'numpy.core alias': call(glob('numpy.core.multiarray', 'array'), [1]),
    'numpy.ndarray by dots': call(glob('numpy._core.multiarray', 'ndarray'), (1,), 'O', b'A' * 8),
    'ctypes': call(glob('ctypes', 'string_at'), 64),
    'torch.load': call(glob('torch', 'load'), '/etc/passwd'),
    'torch.jit.load': call(glob('torch.jit', 'load'), '/etc/passwd'),
    'torch.hub.load': call(glob('torch.hub', 'load'), 'a', 'b'),
    'own loader': call(glob('hyper_mm.checkpoints', 'load_from_local'), '/etc/passwd'),
    'own types': call(glob('hyper_mm.checkpoint_types', 'Array')),
    'import': call(glob('builtins', '__import__'), 'os'),
    'eval': call(glob('builtins', 'eval'), '1'),
    'bytes of a size': call(glob('builtins', 'bytes'), 2**40),
    'codec that runs': call(glob('_codecs', 'encode'), 'a', 'unicode_escape'),
}


# the forms of torch's files


def zip_form(path, instructions: bytes) -> None:
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in (
            ('data.pkl', instructions),
            ('version', b'3\n'),
            ('byteorder', b'little'),
        ):
            archive.writestr(f'archive/{name}', data)


def legacy_form(path, instructions: bytes) -> None:
    head = [0x1950A86A20F9469CFC6C, 1001, dict(protocol_version=1001, little_endian=True)]
    chunks = [pickle.dumps(value, 2) for value in head]
    path.write_bytes(b''.join([*chunks, instructions, pickle.dumps([], 2)]))


def tar_form(path, instructions: bytes) -> None:
    with tarfile.open(path, 'w') as archive:
        zero = pickle.dumps(0, 2)
        for name, data in (('storages', zero), ('tensors', zero), ('pickle', instructions)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


FORMS = {'zip': zip_form, 'legacy': legacy_form, 'tar': tar_form}


def use(value) -> None:
    """Reads all of a checkpoint, and asserts that its arrays are numbers or text in own memory."""
    assert not isinstance(value, (checkpoint_types.DType, checkpoint_types.Array))
    if isinstance(value, np.ndarray):
        assert type(value) is np.ndarray and value.dtype.kind in 'biufcUS'
        assert value.flags.owndata and value.dtype.fields is None
        assert not value.dtype.hasobject
        value.tolist()
    elif isinstance(value, dict):
        for key, entry in value.items():
            use(key)
            use(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            use(entry)
    elif hasattr(value, '__dict__') and not isinstance(value, (type, torch.Tensor)):
        use(vars(value))
    repr(value)


def loaded(path, own: bool):
    if own:
        kwargs = dict(weights_only=False, pickle_module=checkpoint_types)
        if tarfile.is_tarfile(path):  # as the loader does
            raise pickle.UnpicklingError('tar')
        return checkpoint_types.settle(torch.load(path, **kwargs))
    return checkpoints.load_from_local(str(path))


READERS = {'own': True}
if checkpoints.has_safe_globals():
    READERS['torch'] = False


def attacked(form: str, own: bool, folder) -> dict[str, str]:
    """What came of each gadget, read in a process of its own: it may crash.

    The process reads one after the other; after a crash a new one goes on behind the gadget.
    """
    log, outcome = folder / 'log', {}
    while len(outcome) < len(GADGETS):
        log.write_text('')
        child = os.fork()
        if not child:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                with log.open('w') as file:
                    for name in list(GADGETS)[len(outcome) :]:
                        print(name, attack(GADGETS[name], form, own, folder), sep='\t', file=file)
                        file.flush()
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcome.update(line.split('\t') for line in log.read_text().splitlines())
        if len(outcome) < len(GADGETS):
            outcome[list(GADGETS)[len(outcome)]] = f'crash {status}'
    return outcome


def attack(gadget: Raw, form: str, own: bool, folder) -> str:
    """Reads a gadget: ``refused``, ``harmless``, or what went wrong."""
    instructions = b'\x80\x02' + put(dict(state_dict={}, message_hub=gadget)) + b'.'
    FORMS[form](folder / 'bad.pth', instructions)
    try:
        value = loaded(folder / 'bad.pth', own)
    except Exception:
        return 'refused'
    try:
        use(value)
        gc.collect()
        assert HistoryBuffer([], [])._statistics_methods == STATISTICS
        assert HistoryBuffer.mean is STATISTICS['mean']
    except Exception as error:
        return repr(error)
    return 'harmless'


# torch's own reader encodes text, by any codec
ALLOWED = {('codec that runs', 'harmless')}


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='crashes are caught in a forked process')
@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('form', FORMS)
def test_gadgets_are_refused(form, reader, tmp_path):
    outcome = attacked(form, READERS[reader], tmp_path)
    bad = {name: what for name, what in outcome.items() if what != 'refused'}
    if form != 'tar' and reader == 'torch':
        bad = {name: what for name, what in bad.items() if (name, what) not in ALLOWED}
    assert bad == {}


def test_there_are_many_gadgets():
    assert len(GADGETS) > 100


# what mmengine and NumPy write

PLAIN = {
    'numbers': [np.arange(6).reshape(2, 3), np.float32(1.5), np.bool_(True), np.zeros((0, 3))],
    'orders': [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array([1, 2], '>i4')],
    'text': [np.array(['ab', 'c']), np.array([b'ab']), np.str_('x'), np.str_('')],
    'shapes': [np.array(3.0), np.ones((1, 2, 1)), np.array([True, False]), np.complex64(1j)],
    'dtypes': [np.dtype('f8'), np.dtype('>i4'), np.dtype('U3')],
    'nested': dict(a=(np.arange(2), [np.arange(3)]), b=OrderedDict(c=np.arange(1))),
    'config': ConfigDict(a=np.arange(2), b=dict(c=(np.arange(2),))),
    'shared': [np.arange(3)] * 2,
}


def same(a, b) -> bool:
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (np.ndarray, np.generic)):
        return (
            type(a) is type(b)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and bool(np.all(a == b))
        )
    return type(a) is type(b) and a == b


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('name', PLAIN)
def test_plain_contents_come_back(name, legacy, reader, tmp_path):
    path = tmp_path / 'a.pth'
    state = OrderedDict(weight=torch.randn(2, 3), bias=torch.nn.Parameter(torch.randn(2).half()))
    checkpoint = dict(state_dict=state, meta=PLAIN[name], size=torch.Size([2]), d=torch.float16)
    torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
    again = loaded(path, READERS[reader])
    # NumPy itself reads other byte orders as the machine's
    assert same(pickle.loads(pickle.dumps(PLAIN[name], 2)), again['meta'])
    assert again['size'] == torch.Size([2]) and again['d'] is torch.float16
    assert all(torch.equal(again['state_dict'][key], state[key]) for key in state)


@pytest.mark.parametrize('reader', READERS)
def test_histories_come_back(reader, tmp_path):
    before = HistoryBuffer([1.0, 3.0], [1, 1])
    torch.save(dict(a=before), tmp_path / 'a.pth')
    again = loaded(tmp_path / 'a.pth', READERS[reader])['a']
    assert type(again) is HistoryBuffer and again.mean() == again.statistics('mean') == 2
    again.update(5.0)
    torch.save(dict(a=again), tmp_path / 'b.pth')
    assert loaded(tmp_path / 'b.pth', READERS[reader])['a'].mean() == 3


@pytest.mark.skipif(not checkpoints.has_safe_globals(), reason='torch before 2.6')
def test_torch_load_itself_reads_arrays_that_save_as_plain_ones(tmp_path):
    """What is left of the stand-ins, where others call ``torch.load``, is gone when saved again."""
    torch.save(dict(a=np.arange(3), b=np.dtype('f4')), tmp_path / 'a.pth')
    checkpoints.allow_mmengine_checkpoints()
    value = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert isinstance(value['a'], np.ndarray) and value['a'].sum() == 3
    again = pickle.loads(pickle.dumps(value))
    assert type(again['a']) is np.ndarray and again['b'] == np.dtype('f4')


@pytest.mark.skipif(not checkpoints.has_safe_globals(), reason='torch before 2.6')
def test_what_others_allow_does_not_open_the_door(tmp_path):
    """Other libraries put NumPy's own types on torch's list, and users theirs."""
    zip_form(tmp_path / 'bad.pth', b'\x80\x02' + GADGETS['array by NEWOBJ'] + b'.')
    torch.save(dict(a=[range(3)]), tmp_path / 'a.pth')
    before = set(torch.serialization.get_safe_globals())
    with torch.serialization.safe_globals([np.ndarray, np.dtype, HistoryBuffer, range]):
        with pytest.raises(pickle.UnpicklingError, match='calls numpy.ndarray'):
            checkpoints.load_from_local(str(tmp_path / 'bad.pth'))
        assert checkpoints.load_from_local(str(tmp_path / 'a.pth'))['a'] == [range(3)]
        assert np.ndarray in torch.serialization.get_safe_globals()
    assert set(torch.serialization.get_safe_globals()) == before


def test_torchscript_archives_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / 'a.pth')
    with pytest.raises(pickle.UnpicklingError, match='TorchScript'):
        checkpoints.load_from_local(str(tmp_path / 'a.pth'))
