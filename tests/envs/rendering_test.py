"""Tests of envs.rendering, and of envs.gl, which finds the library it draws with."""

from collections.abc import Iterator
import os
import subprocess
import sys

import numpy as np
import pytest

from envs import gl
from envs import rendering
from envs import stepping
from envs import tasks


@pytest.fixture(scope='module')
def stack() -> stepping.ManipulationEnvironment:
  environment = tasks.load('stack_2_bricks', seed=0)
  environment.reset()
  return environment


@pytest.fixture
def forget() -> Iterator[None]:
  gl.choose_gl.cache_clear()
  yield
  gl.choose_gl.cache_clear()


def _redness(picture: np.ndarray) -> np.ndarray:
  red, green, blue = np.moveaxis(picture.astype(float), -1, 0)
  return red - (green + blue) / 2


def test_draws_the_arm_and_both_bricks(stack: stepping.ManipulationEnvironment) -> None:
  picture = rendering.Renderer(stack, size=(120, 160)).render()
  assert picture.shape == (120, 160, 3) and picture.dtype == np.uint8
  assert (_redness(picture) > 100).sum() > 20
  assert (_redness(picture[..., [1, 0, 2]]) > 100).sum() > 20  # The green brick.
  assert (picture.max(-1) < 40).sum() > 200  # The arm is black.
  # The arm hangs from the top of the picture: it is not upside down.
  assert (picture[:40].max(-1) < 40).sum() > (picture[80:].max(-1) < 40).sum()


@pytest.mark.parametrize('coarse', [False, True])
def test_leaves_out_the_goal_hints(
  stack: stepping.ManipulationEnvironment, coarse: bool
) -> None:
  model = stack.physics.model.ptr
  before = model.body_pos.copy()
  hints = np.unique(model.geom_bodyid[model.geom_rgba[:, 3] < 1])
  hints = hints[model.body_weldid[hints] == 0]  # Those of the hand do move.
  assert hints.size
  renderer = rendering.Renderer(stack, (60, 80), coarse=coarse)
  picture = renderer.render()
  model.body_pos[hints] = 0, -0.1, 0.2  # In front of everything.
  np.testing.assert_array_equal(renderer.render(), picture)
  model.body_pos[:] = before


def test_where_the_model_has_put_a_thing_is_drawn(
  stack: stepping.ManipulationEnvironment,
) -> None:
  model = stack.physics.model.ptr
  renderer = rendering.Renderer(stack, (60, 80))
  picture = renderer.render()
  model.body_pos[1] += 0.1
  moved = renderer.render()
  model.body_pos[1] -= 0.1
  assert (moved != picture).any()


def test_draws_the_present_state(stack: stepping.ManipulationEnvironment) -> None:
  start = stack.get_state()
  action = np.full(9, 0.5, np.float32)
  renderer = rendering.Renderer(stack, size=(60, 80))
  first = renderer.render()
  for _ in range(10):
    stack.step(action)
  moved, end = renderer.render(), stack.get_state()
  np.testing.assert_array_equal(
    [*renderer.render_states(np.stack([start, end]))], [first, moved]
  )
  np.testing.assert_array_equal(stack.get_state(), end)
  stack.set_state(start)
  again = renderer.render()
  assert (first != moved).any(-1).mean() > 0.02
  np.testing.assert_array_equal(first, again)


def test_states_of_another_task_are_refused(
  stack: stepping.ManipulationEnvironment,
) -> None:
  size = stack.get_state().size
  with pytest.raises(ValueError, match=rf'shape \(2, 3\); expected \(T, {size}\)'):
    [*rendering.Renderer(stack).render_states(np.zeros((2, 3)))]


def test_renderers_do_not_disturb_each_other(
  stack: stepping.ManipulationEnvironment,
) -> None:
  other = tasks.load('lift_brick', seed=1)
  other.reset()
  a = rendering.Renderer(stack, size=(30, 40))
  alone = a.render()
  # Another model, then larger buffers than it has at first, and other settings.
  for size in ((120, 160), (400, 500)):
    assert rendering.Renderer(other, size).render().shape == (*size, 3)
    np.testing.assert_array_equal(a.render(), alone)
  assert rendering.Renderer(stack, (60, 160), 'side', True).render().any()
  np.testing.assert_array_equal(a.render(), alone)


def test_renderers_share_a_context_and_a_model(
  stack: stepping.ManipulationEnvironment,
) -> None:
  other = tasks.load('two_bricks', seed=1)  # The same for dm_control.
  first, second = rendering.Renderer(stack), rendering.Renderer(other, (64, 64), 'side')
  assert first._canvas is second._canvas
  assert rendering._context.cache_info().currsize == 1


_BESIDE_DM_CONTROL = """
import numpy as np
from envs import rendering
from envs import tasks

stack = tasks.load('stack_2_bricks', seed=0)
stack.reset()
theirs = lambda: stack.physics.render(60, 80, camera_id='front_close')
first = theirs()
assert first.std() > 10, 'dm_control drew nothing'
for coarse in (True, False):
  renderer = rendering.Renderer(stack, (60, 80), coarse=coarse)  # Makes a GL context.
  np.testing.assert_array_equal(theirs(), first)
  ours = renderer.render()
  np.testing.assert_array_equal(theirs(), first)
  np.testing.assert_array_equal(renderer.render(), ours)
print('alike')
"""


@pytest.mark.parametrize('backend', ['egl', 'osmesa'])
def test_dm_control_draws_beside_it_what_it_draws_alone(backend: str) -> None:
  if fault := gl._probe(backend):
    pytest.skip(f'{backend} does not draw here: {fault}')
  environment = {k: v for k, v in os.environ.items() if k != 'PYOPENGL_PLATFORM'}
  done = subprocess.run(
    [sys.executable, '-c', _BESIDE_DM_CONTROL],
    env=environment | {'MUJOCO_GL': backend},
    capture_output=True,
    text=True,
  )
  assert done.stdout == 'alike\n', done.stderr


def test_what_is_asked_for_is_checked(stack: stepping.ManipulationEnvironment) -> None:
  with pytest.raises(
    ValueError, match=r'size is \(0, 80\); expected \(height, width\)'
  ):
    rendering.Renderer(stack, size=(0, 80))
  with pytest.raises(ValueError, match="no camera 'back'; there are"):
    rendering.Renderer(stack, camera='back')


def test_choose_gl_names_a_backend_that_draws() -> None:
  backend = rendering.choose_gl()
  assert backend in ('egl', 'osmesa', 'glfw')
  assert rendering.draw_test_frame(backend)  # Raises if the picture is not right.


@pytest.mark.usefixtures('forget')
def test_choose_gl_tries_egl_then_osmesa_once(monkeypatch: pytest.MonkeyPatch) -> None:
  tried: list[str] = []

  def probe(backend: str) -> str:
    tried.append(backend)
    return 'ImportError: no libEGL' if backend == 'egl' else ''

  monkeypatch.setattr(gl, '_probe', probe)
  monkeypatch.delenv('MUJOCO_GL', raising=False)
  assert gl.choose_gl() == 'osmesa'
  assert gl.choose_gl() == 'osmesa'
  assert tried == ['egl', 'osmesa']


@pytest.mark.usefixtures('forget')
def test_choose_gl_respects_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(gl, '_probe', lambda backend: '')
  monkeypatch.setenv('MUJOCO_GL', 'osmesa')
  assert gl.choose_gl() == 'osmesa'


@pytest.mark.usefixtures('forget')
def test_choose_gl_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(gl, '_probe', lambda backend: f'OSError: no lib of {backend}')
  monkeypatch.delenv('MUJOCO_GL', raising=False)
  with pytest.raises(RuntimeError) as info:
    gl.choose_gl()
  assert 'apt-get install libosmesa6' in str(info.value)
  assert 'apt-get install libegl1' in str(info.value)
  assert 'egl: OSError: no lib of egl' in str(info.value)
  assert 'osmesa: OSError: no lib of osmesa' in str(info.value)


@pytest.mark.usefixtures('forget')
@pytest.mark.parametrize(
  'value, message',
  [
    ('off', "MUJOCO_GL is 'off', which switches rendering off"),
    ('vulkan', "MUJOCO_GL is 'vulkan'; expected one of"),
  ],
)
def test_choose_gl_refuses(
  monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
  monkeypatch.setenv('MUJOCO_GL', value)
  with pytest.raises(RuntimeError, match=message):
    gl.choose_gl()


def test_a_probe_tells_what_went_wrong() -> None:
  assert "No module named 'mujoco.nosuch'" in gl._probe('nosuch') or (
    'invalid value for environment variable MUJOCO_GL: nosuch' in gl._probe('nosuch')
  )
