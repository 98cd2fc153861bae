"""What a checkpoint may hold beside tensors, and how it is built: by numbers, never by a call.

An allow-list that names ``numpy.ndarray`` or ``numpy.dtype`` lets a file choose the arguments of
their constructors: an array of objects over bytes of its own, say, which makes Python follow any
address. So the names stand for the types of this module here. They accept what NumPy and mmengine
write, check it, and build the object from plain numbers; everything else is refused.
"""

from __future__ import annotations

import math
import pickle
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from functools import cache

import numpy as np
import torch

_PLAIN = re.compile(r'[biufc](?:1|2|4|8|16|32)|[US](?:0|[1-9]\d{0,5})')
_STATES = (
    ('<', '>', '|', '='),  # byte order
    (None,),  # no base
    (None,),  # no names
    (None,),  # no fields
)
_STATISTICS = ('min', 'max', 'mean', 'current')
_SCHEDULES = ('_annealing_cos', '_annealing_linear')


def refuse(what: str) -> pickle.UnpicklingError:
    """The error of a checkpoint that holds what it must not."""
    return pickle.UnpicklingError(f'refused an unsafe checkpoint: {what}')


class DType:
    """Stands for ``numpy.dtype`` while a checkpoint is read: numbers and text, no fields.

    Args:
        code: NumPy's code of a plain type, such as ``f8`` or ``U3``.
        align: As NumPy writes it, False.
        copy: As NumPy writes it, True.
    """

    __slots__ = ('dtype',)

    def __new__(cls, code: object = None, align: object = False, copy: object = True) -> DType:
        """Reads the code; other arguments than those that NumPy pickles are refused."""
        plain = type(code) is str and _PLAIN.fullmatch(code)
        flags = all(type(flag) in (bool, int) for flag in (align, copy))
        if not plain or not flags or align or not copy:
            raise refuse(f'it builds the dtype {code!r}; plain numbers and text are allowed')
        self = super().__new__(cls)
        try:
            self.dtype = np.dtype(code)
        except TypeError:
            raise refuse(f'it builds the dtype {code!r}, which is none') from None
        return self

    def __setstate__(self, state: object) -> None:
        """Reads the byte order; the rest must be what a plain type says of itself."""
        own = self.dtype.itemsize if self.dtype.kind in 'US' else -1
        sizes = (-1, own), (-1, 1, 4), (0, 8)
        fits = type(state) is tuple and len(state) == 8 and type(state[0]) is int and state[0] == 3
        if not fits or any(
            type(value) not in (int, str, type(None)) or value not in allowed
            for value, allowed in zip(state[1:], (*_STATES, *sizes))
        ):
            raise refuse(f'it gives a dtype the state {state!r}')
        if state[1] in '<>':
            self.dtype = self.dtype.newbyteorder(state[1])

    def __reduce__(self) -> tuple:
        return np.dtype, (self.dtype.str,)


class Array(np.ndarray):
    """Stands for ``numpy.ndarray`` while a checkpoint is read; saved again, it is a plain array."""

    def __new__(cls, *args: object, **kwargs: object) -> Array:
        """Always raises: arrays come by :func:`reconstruct` alone."""
        raise refuse('it calls numpy.ndarray, which could lay an array over any memory')

    def __setstate__(self, state: object) -> None:
        """Fills the array from bytes of exactly its size, once."""
        if self.__dict__.get('filled', True):
            raise refuse('it fills an array twice')
        if type(state) is not tuple or len(state) != 5:
            raise refuse('it gives an array a state that NumPy does not write')
        version, shape, dtype, fortran, data = state
        if type(version) is not int or version != 1 or type(fortran) not in (bool, int):
            raise refuse('it gives an array a state that NumPy does not write')
        if type(dtype) is not DType:
            raise refuse(f'it gives an array the dtype {type(dtype).__name__}')
        if type(shape) is not tuple or len(shape) > 32:
            raise refuse(f'it gives an array the shape {shape!r}')
        if any(type(n) is not int or not 0 <= n < 2**62 for n in shape):
            raise refuse(f'it gives an array the shape {shape!r}')
        size = dtype.dtype.itemsize
        if type(data) is not bytes or not size or len(data) != math.prod(shape) * size:
            raise refuse(f'it gives an array of shape {shape} other than its bytes')
        self.filled = True
        plain = _read(data, dtype.dtype).reshape(shape, order='F' if fortran else 'C')
        np.ndarray.__setstate__(self, plain.__reduce__()[2])

    def __array_finalize__(self, other: object) -> None:
        self.filled = True

    def __reduce__(self) -> tuple:
        return self.view(np.ndarray).__reduce__()

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _read(data: bytes, dtype: np.dtype) -> np.ndarray:
    """Numbers or text of bytes; truth values are 0 or 1, characters are those of Unicode."""
    if dtype.kind == 'b':
        return np.frombuffer(data, np.uint8) != 0
    if dtype.kind == 'U':
        codes = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if codes.size and codes.max() > 0x10FFFF:
            raise refuse('it holds text of characters that do not exist')
    return np.frombuffer(data, dtype)


def reconstruct(*args: object) -> Array:
    """Stands for NumPy's ``_reconstruct``: an empty array, to be filled by its state."""
    subtype, shape, code = args if len(args) == 3 else (None,) * 3
    fits = type(shape) is tuple and shape == (0,) and type(code) in (bytes, str)
    if subtype is not Array or not fits or code not in (b'b', 'b'):
        raise refuse('it reconstructs an array in another way than NumPy')
    array = np.ndarray.__new__(Array, (0,), np.int8)
    array.filled = False
    return array


def scalar(*args: object) -> object:
    """Stands for NumPy's ``scalar``: one number or text, from exactly its bytes."""
    dtype, data = args if len(args) == 2 else (None,) * 2
    if type(dtype) is not DType or type(data) is not bytes or len(data) != dtype.dtype.itemsize:
        raise refuse('it builds a NumPy scalar from other than a plain type and its bytes')
    if not data:
        return np.zeros((), dtype.dtype)[()]
    return _read(data, dtype.dtype)[0]


def no_bytes(*args: object) -> bytes:
    """Stands for ``bytes``, by which protocol 2 writes those of length 0."""
    if args:
        raise refuse('it builds bytes in another way than Python')
    return b''


class _Owner:
    """Stands for a class of which a checkpoint names methods: not callable, has no state."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


ONE_CYCLE = _Owner('OneCycleParamScheduler')


def attribute(*args: object) -> object:
    """Stands for ``getattr``: the methods that mmengine itself pickles and nothing else."""
    owner, name = args if len(args) == 2 else (None,) * 2
    if owner is history_type() and type(name) is str and name in _STATISTICS:
        from mmengine.logging import HistoryBuffer

        return getattr(HistoryBuffer, name)
    if owner is ONE_CYCLE and type(name) is str and name in _SCHEDULES:
        from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

        return getattr(OneCycleParamScheduler, name)
    raise refuse(f'it reads attribute {name!r} of {owner!r}')


@cache
def history_type() -> type:
    """Stands for mmengine's ``HistoryBuffer``; instances become it when they are filled.

    mmengine's own would take any functions of the file as statistics, for all buffers.
    """
    from mmengine.logging import HistoryBuffer

    class History(HistoryBuffer):
        def __init__(self, *args: object, **kwargs: object):
            raise refuse('it calls HistoryBuffer')

        def __setstate__(self, state: object) -> None:
            if type(state) is not dict or type(self) is not History:
                raise refuse('it gives HistoryBuffer a state that mmengine does not write')
            state = dict(state)
            methods = state.pop('statistics_methods', {})
            # the methods of others are not in a file: register_statistics brings them back
            known: dict = {name: getattr(HistoryBuffer, name) for name in _STATISTICS}
            if type(methods) is not dict or any(
                known.get(name) is not method for name, method in methods.items()
            ):
                raise refuse('it brings statistics of its own for HistoryBuffer')
            logs = [state.get('_log_history'), state.get('_count_history')]
            if set(state) != {'max_length', '_log_history', '_count_history'} or any(
                not isinstance(log, np.ndarray) or log.ndim != 1 or log.dtype.kind not in 'biufc'
                for log in logs
            ):
                raise refuse('it gives HistoryBuffer a state that mmengine does not write')
            self._set_default_statistics()
            self.max_length = int(state['max_length'])
            self._log_history, self._count_history = (np.array(log) for log in logs)
            self.__class__ = HistoryBuffer

    return History


@cache
def replacements() -> dict[str, object]:
    """The types and functions of mmengine's checkpoints, by the names that files write."""
    from mmengine.config import ConfigDict

    table: dict[str, object] = {
        'builtins.getattr': attribute,
        'builtins.bytes': no_bytes,
        'numpy.ndarray': Array,
        'numpy.dtype': DType,
        'mmengine.config.config.ConfigDict': ConfigDict,
        'mmengine.logging.history_buffer.HistoryBuffer': history_type(),
        'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler': ONE_CYCLE,
    }
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        table[f'{module}._reconstruct'] = reconstruct
        table[f'{module}.scalar'] = scalar
    return table


def settle(value: object) -> object:
    """Replaces what stood for arrays and dtypes by NumPy's own, in place where it can.

    Args:
        value: What was read: nested dictionaries, lists, tuples and sets of anything.

    Returns:
        The same with plain arrays and dtypes.
    """
    done: dict[int, object] = {}

    def walk(item: object) -> object:
        if type(item) is Array:
            return np.array(item)
        if type(item) is DType:
            return item.dtype
        if id(item) in done or not isinstance(item, (dict, list, tuple)):
            return done.get(id(item), item)
        done[id(item)] = item
        if isinstance(item, dict):
            for key, entry in list(dict.items(item)):
                new = walk(entry)
                if new is not entry:
                    dict.__setitem__(item, key, new)
        elif isinstance(item, list):
            item[:] = [walk(entry) for entry in item]
        elif type(item) is tuple:
            entries = [walk(entry) for entry in item]
            if any(new is not old for new, old in zip(entries, item)):
                done[id(item)] = tuple(entries)
        return done[id(item)]

    return walk(value)


@cache
def _table() -> dict[str, object]:
    """All names that a checkpoint may hold: those of :func:`replacements` and torch's own."""
    found: dict[str, object] = {
        **replacements(),
        'collections.OrderedDict': OrderedDict,
        'collections.Counter': Counter,
        'torch.nn.parameter.Parameter': torch.nn.Parameter,
        'torch.Size': torch.Size,
        'torch.device': torch.device,
        'torch.serialization._get_layout': torch.serialization._get_layout,
        '_codecs.encode': encode,
        'builtins.set': set,
        'builtins.complex': complex,
    }
    for value in vars(torch).values():
        if isinstance(value, torch.dtype):
            found[str(value)] = value
    for name in ('_tensor', '_tensor_v2', '_parameter', '_qtensor', '_sparse_tensor'):
        found[f'torch._utils._rebuild{name}'] = getattr(torch._utils, f'_rebuild{name}')
    return found


def encode(*args: object) -> bytes:
    """Stands for ``_codecs.encode``, by which protocol 2 writes bytes."""
    text, codec = args if len(args) == 2 else (None,) * 2
    if type(text) is not str or codec != 'latin1':
        raise refuse('it encodes other than bytes')
    return text.encode('latin1')


class Unpickler(pickle._Unpickler):
    """Reads the pickles of checkpoints where torch reads none by an allow-list (before 2.6).

    Written in Python, for an instruction to be refused by what it works on: only names of the table
    are found, only what stands in the table is called, only types of the table take a state.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> object:
        """The object of a name in the table."""
        if (module, name) in NAME_MAPPING:  # protocol 2 writes the names of Python 2
            module, name = NAME_MAPPING[module, name]
        full = f'{IMPORT_MAPPING.get(module, module)}.{name}'
        if module == 'torch' and name.endswith('Storage'):
            storage = getattr(torch, name, None)
            if isinstance(storage, type):
                return storage
        table = _table()
        if full not in table:
            raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {full} is not allowed')
        return table[full]

    def _is_allowed(self, what: object) -> bool:
        return any(what is one for one in _table().values())

    def load_reduce(self) -> None:
        """Calls what stands in the table."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        if type(arguments) is not tuple or not self._is_allowed(function):
            raise refuse(f'it calls {function!r}')
        if not callable(function):
            raise refuse(f'it calls {function!r}')
        self.stack[-1] = function(*arguments)

    def load_newobj(self) -> None:
        """Creates an instance of a type of the table."""
        arguments = self.stack.pop()
        kind = self.stack.pop()
        if type(arguments) is not tuple or not isinstance(kind, type):
            raise refuse(f'it creates {kind!r}')
        if not self._is_allowed(kind):
            raise refuse(f'it creates {kind!r}')
        self.append(kind.__new__(kind, *arguments))

    def load_build(self) -> None:
        """Gives a state to an instance of a type of the table."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) in (OrderedDict, torch.nn.Parameter) and type(state) is dict:
            if state:
                target.__dict__.update(state)
        elif type(target) in (Array, DType, history_type()):
            target.__setstate__(state)
        else:
            raise refuse(f'it gives a state to {type(target).__name__}')

    def load_append(self) -> None:
        """Appends to a list."""
        item = self.stack.pop()
        if type(self.stack[-1]) is not list:
            raise refuse(f'it appends to {type(self.stack[-1]).__name__}')
        self.stack[-1].append(item)

    def load_appends(self) -> None:
        """Extends a list."""
        items = self.pop_mark()
        if type(self.stack[-1]) is not list:
            raise refuse(f'it appends to {type(self.stack[-1]).__name__}')
        self.stack[-1].extend(items)

    def load_setitem(self) -> None:
        """Sets an entry of a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def load_setitems(self) -> None:
        """Sets entries of a dictionary."""
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2]):
            self._set(key, value)

    def _set(self, key: object, value: object) -> None:
        if type(self.stack[-1]) not in (dict, OrderedDict, Counter):
            raise refuse(f'it sets an entry of {type(self.stack[-1]).__name__}')
        self.stack[-1][key] = value

    def load_refused(self) -> None:
        """Raises at an instruction that no checkpoint needs."""
        raise refuse('it holds an instruction that no checkpoint needs')

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    for _code in (
        *(pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEWOBJ_EX),
        *(pickle.PERSID, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.ADDITEMS),
    ):
        dispatch[_code[0]] = load_refused


def load(file: object, **kwargs: object) -> object:
    """Reads one pickle, as :func:`pickle.load`; torch takes this module for ``pickle``."""
    return Unpickler(file, **kwargs).load()
