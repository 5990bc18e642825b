"""Demonstration files that are damaged, or made to do harm."""

from collections.abc import Callable
import pathlib
import signal
from typing import Any
import zlib

import h5py
import numpy as np
import pytest

from metamimic.demonstrations import hdf5
from metamimic.demonstrations import storage
from metamimic.demonstrations import types
from tests.metamimic import damage

Edit = Callable[[h5py.File], object]

_DEMO = 'data/demo_1'
_STATES = f'{_DEMO}/states'


def _demonstration(number: int) -> types.Demonstration:
  rng = np.random.default_rng(number)
  return types.Demonstration(
    name=f'demo_{number}',
    task='lift_brick',
    skill='lift',
    observations={
      'body': rng.normal(size=(3, 33)).astype(np.float32),
      'objects': rng.normal(size=(3, 13)).astype(np.float32),
    },
    states=rng.normal(size=(3, 6)),
    actions=rng.uniform(-1, 1, (2, 9)).astype(np.float32),
    expert={'speed': 0.5},
  )


@pytest.fixture(name='path')
def path_fixture(tmp_path: pathlib.Path) -> str:
  path = str(tmp_path / 'lift.hdf5')
  demonstrations = tuple(_demonstration(i) for i in range(2))
  storage.save(path, types.DemonstrationSet('lift_brick', demonstrations, (0,), (1,)))
  return path


def _load(path: str) -> types.DemonstrationSet:
  return storage.load(path, with_actions=True)


def test_damaged_files_are_refused_or_as_good_as_before(path: str) -> None:
  content = pathlib.Path(path).read_bytes()
  damage.assert_refused(
    lambda: _load(path),
    path,
    (damage.damaged(content, seed) for seed in range(damage.CASES)),
    least=damage.CASES // 4,
  )


def test_damaged_descriptions_are_refused_or_as_good_as_before(path: str) -> None:
  # Nearly all of the file but its numbers.
  content = pathlib.Path(path).read_bytes()
  begin = content.index(b'env_name') - 2000

  def around(seed: int) -> bytes:
    return (
      content[:begin]
      + damage.damaged(content[begin:][:4000], seed)
      + (content[begin + 4000 :])
    )

  damage.assert_refused(lambda: _load(path), path, map(around, range(300)), least=100)


def _remade(name: str, **arguments: Any) -> Edit:
  """Returns an edit that puts another dataset in the place of one."""

  def edit(file: h5py.File) -> None:
    del file[name]
    file.create_dataset(name, **arguments)

  return edit


def _linked(name: str, link: Any) -> Edit:
  def edit(file: h5py.File) -> None:
    if name in file:
      del file[name]
    file[name] = link

  return edit


def _attribute(name: str, attribute: str, value: Any, **arguments: Any) -> Edit:
  def edit(file: h5py.File) -> None:
    file[name].attrs.create(attribute, value, **arguments)

  return edit


def _virtual(file: h5py.File) -> None:
  layout = h5py.VirtualLayout((2, 6), 'f8')
  layout[:] = h5py.VirtualSource('/etc/passwd', 'states', (2, 6))
  del file[_STATES]
  file.create_virtual_dataset(_STATES, layout)


def _bomb(file: h5py.File) -> None:
  """Packs a quarter of a gigabyte into the one chunk of a hundred bytes."""
  del file[_STATES]
  states = file.create_dataset(_STATES, (2, 6), 'f8', chunks=(2, 6), compression='gzip')
  packer = zlib.compressobj(1)
  packed = b''.join(packer.compress(bytes(2**20)) for _ in range(256))
  states.id.write_direct_chunk((0, 0), packed + packer.flush())


def _with_plugin(file: h5py.File) -> None:
  properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
  properties.set_chunk((2, 6))
  properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (1,))
  space = h5py.h5s.create_simple((2, 6))
  del file[_STATES]
  h5py.h5d.create(file.id, _STATES.encode(), h5py.h5t.IEEE_F64LE, space, properties)


def _many_times(file: h5py.File) -> None:
  """Gives one demonstration of eight megabytes many names."""
  demo = file['data/demo_1']
  for name, width in (('states', 100_000), ('final_state', 100_000)):
    del demo[name]
    shape = (width,) if name == 'final_state' else (10, width)
    demo.create_dataset(name, data=np.zeros(shape), chunks=shape, compression='gzip')
  demo.attrs['num_samples'] = 10
  for group, size in (('body', 33), ('objects', 13)):
    for of in ('obs', 'next_obs'):
      del demo[f'{of}/{group}']
      demo[f'{of}/{group}'] = np.zeros((10, size), np.float32)
  for name, shape in (('actions', (10, 9)), ('rewards', (10,))):
    del demo[name]
    demo[name] = np.zeros(shape, np.float32)
  for i in range(2, 1000):
    file[f'data/demo_{i}'] = demo


def _references(file: h5py.File) -> None:
  del file['mask/train']
  file.create_dataset('mask/train', data=np.array([file.ref] * 2, h5py.ref_dtype))


def _named_in_bytes(file: h5py.File) -> None:
  data = file['data'].id
  data.links.create_hard(b'demo_\xff', data, b'demo_1')


@pytest.mark.parametrize(
  'edit, message',
  [
    # More than there is.
    (
      _remade(_STATES, shape=(2**50, 6), dtype='f8'),
      ': demo_1: states has shape (1125899906842624, 6), for which there is no room',
    ),
    (
      _remade(_STATES, shape=(2**40, 6), dtype='f8', chunks=(1, 1)),
      ': demo_1: states has shape (1099511627776, 6), for which there is no room',
    ),
    (
      _remade(
        _STATES, shape=(2, 6), dtype='f8', chunks=(2**14, 2**14), maxshape=(None, None)
      ),
      ': demo_1: states has shape (2, 6), for which there is no room',
    ),
    (
      _remade(_STATES, shape=(2**20, 2), dtype='f8', chunks=(1, 1)),
      ': demo_1: states has 0 chunks; expected 2097152',
    ),
    (_bomb, ': demo_1: states unfolds to more than its shape; expected 96 bytes'),
    (_many_times, ', for which there is no room'),
    # Elsewhere.
    (
      _linked(_DEMO, h5py.ExternalLink('/etc/passwd', '/data')),
      ': demo_1 is a link; expected it in the file itself',
    ),
    (
      _linked('data', h5py.ExternalLink('other.hdf5', '/data')),
      ': data is a link; expected it in the file itself',
    ),
    (
      _linked(f'{_DEMO}/obs', h5py.SoftLink('/data/demo_0/obs')),
      ': demo_1: obs/body is a link; expected it in the file itself',
    ),
    (
      _linked(f'{_DEMO}/rewards', h5py.SoftLink('rewards')),
      ': demo_1: rewards is a link; expected it in the file itself',
    ),
    (_virtual, ': demo_1: states lies in other files; expected it in the file itself'),
    (
      _remade(_STATES, shape=(2, 6), dtype='f8', external=[('/etc/passwd', 0, 96)]),
      ': demo_1: states lies in other files; expected it in the file itself',
    ),
    # Filters.
    (_with_plugin, ': demo_1: states has filters [32015]; expected gzip or none'),
    (
      _remade(_STATES, data=np.ones((2, 6)), compression='lzf', chunks=(2, 6)),
      ': demo_1: states has filters [32000]; expected gzip or none',
    ),
    # Other types.
    (
      _remade(_STATES, data=np.zeros((2, 6), [('x', 'f8'), ('y', 'S9')])),
      ": demo_1: states is [('x', '<f8'), ('y', 'S9')]; expected float64",
    ),
    (
      _remade(_STATES, data=np.zeros((2, 6), '>f8')),
      ': demo_1: states is >f8; expected float64',
    ),
    (
      _remade(_STATES, shape=(2, 6), dtype=h5py.vlen_dtype(np.float64)),
      ': demo_1: states is object; expected float64',
    ),
    (
      _remade(_STATES, shape=(2, 6), dtype=h5py.opaque_dtype('V8')),
      ': demo_1: states is |V8; expected float64',
    ),
    (
      _remade(_STATES, data=h5py.Empty('f8')),
      ': demo_1: states is empty; expected an array',
    ),
    (
      _linked(_STATES, np.dtype('f8')),
      ': demo_1: no dataset states; expected one of float64',
    ),
    (_linked(_DEMO, np.dtype('f8')), ': demo_1 is a type; expected a group'),
    (_references, ': no mask/train; expected a list of demonstrations'),
    # Around in a circle.
    (
      lambda file: _linked(f'{_DEMO}/obs/body', file[f'{_DEMO}/obs'])(file),
      ': demo_1: no dataset obs/body; expected one of float32',
    ),
    (
      lambda file: _linked(_DEMO, file['data'])(file),
      ': demo_1: no dataset states; expected one of float64',
    ),
    # Attributes.
    (
      _attribute('data', 'metamimic_version', [2, 2]),
      ': attribute metamimic_version is no single value; expected a text or a number',
    ),
    (
      _attribute('data', 'total', h5py.Empty('i8')),
      ': attribute total is no single value; expected a text or a number',
    ),
    (
      _attribute('data', 'total', np.array((4, 4), [('x', 'i8'), ('y', 'i8')])),
      ': attribute total is a void; expected a text or a number',
    ),
    (
      _attribute('data', 'env_args', b'\xff\xfe', dtype=h5py.string_dtype()),
      ': attribute env_args is damaged; expected it readable (UnicodeEncodeError',
    ),
    (
      _attribute(_DEMO, 'expert', '{"a": ' + '[' * 30_000 + ']' * 30_000 + '}'),
      ': demo_1: attribute expert is \'{"a": [[[',
    ),
    (
      _attribute(_DEMO, 'expert', '{"speed": NaN}'),
      ': demo_1: attribute expert is \'{"speed": NaN}\'; expected a JSON object',
    ),
    (
      _attribute(_DEMO, 'skill', 'x' * 60_000, dtype='S60000'),
      ': demo_1: attribute skill is a bytes_; expected a text or a number',
    ),
    (
      _attribute('data', 'env_args', '{"env_name": {"lift_brick": 1}}'),
      ": the task is {'lift_brick': 1}; expected one of ['lift_brick', ",
    ),
    # Names.
    (
      lambda file: file['data'].move('demo_1', 'demo_' + '1' * 5000),
      ": data holds 'demo_111",
    ),
    (_named_in_bytes, ": a name is b'demo_\\xff'; expected it in UTF-8"),
    (
      _remade('mask/train', data=np.array([b'demo_0'], 'S99999')),
      ': mask/train has 1 names of 99999 bytes; expected at most 2 of 64',
    ),
    (
      _remade('mask/train', shape=(2**40,), dtype='S6'),
      ': mask/train has 1099511627776 names of 6 bytes; expected at most 2 of 64',
    ),
    (
      _remade('mask/train', data=['x' * 2**20] * 2, dtype=h5py.string_dtype()),
      ": mask/train holds 'xxx",
    ),
    (
      _remade('mask/train', data=np.array([b'demo_\xff'])),
      ': mask/train is damaged; expected it readable (UnicodeDecodeError',
    ),
  ],
)
def test_what_is_made_to_do_harm_is_refused(
  path: str, edit: Edit, message: str
) -> None:
  with h5py.File(path, 'r+') as file:
    edit(file)
  found = damage.message(lambda: _load(path))
  assert found.startswith(f'{path}: ') and message in found
  assert len(found) < 1000


@pytest.mark.parametrize(
  'arguments',
  [
    {'compression': 'gzip'},
    {'compression': 'gzip', 'shuffle': True, 'fletcher32': True},
    {'chunks': (1, 6)},
    {'chunks': (2, 4), 'fletcher32': True},
  ],
)
def test_arrays_may_be_packed_otherwise(path: str, arguments: Any) -> None:
  expected = _load(path).demonstrations[1]
  with h5py.File(path, 'r+') as file:
    _remade(_STATES, data=expected.states[:-1], **arguments)(file)
  np.testing.assert_array_equal(_load(path).demonstrations[1].states, expected.states)


def test_names_may_be_of_any_length(path: str) -> None:
  with h5py.File(path, 'r+') as file:
    _remade('mask/train', data=['demo_0'], dtype=h5py.string_dtype())(file)
  assert _load(path).train == (0,)


def test_a_crash_of_the_library_is_an_error(path: str) -> None:
  def crash(file: hdf5.Group) -> None:
    del file
    signal.raise_signal(signal.SIGSEGV)

  with pytest.raises(ValueError) as e:
    hdf5.read(path, crash)
  assert str(e.value) == (
    f'{path}: damaged; expected a complete HDF5 file (ended by SIGSEGV)'
  )
