"""Tests of envs.rendering, and of envs.gl, which finds the library it draws with."""

from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
  gl.choose_gl.cache_clear()
  yield
  gl.choose_gl.cache_clear()


def _redness(picture: np.ndarray) -> np.ndarray:
  red, green, blue = np.moveaxis(picture.astype(float), -1, 0)
  return red - (green + blue) / 2


def test_draws_the_arm_and_both_bricks(stack: stepping.ManipulationEnvironment) -> None:
  with rendering.Renderer(stack, size=(120, 160)) as renderer:
    picture = renderer.render()
  assert picture.shape == (120, 160, 3) and picture.dtype == np.uint8
  assert (_redness(picture) > 100).sum() > 20
  assert (_redness(picture[..., [1, 0, 2]]) > 100).sum() > 20  # The green brick.
  assert (picture.max(-1) < 40).sum() > 200  # The arm is black.
  # The arm hangs from the top of the picture: it is not upside down.
  assert (picture[:40].max(-1) < 40).sum() > (picture[80:].max(-1) < 40).sum()


def test_leaves_out_the_goal_hints(stack: stepping.ManipulationEnvironment) -> None:
  model = stack.physics.model.ptr
  before = model.geom_rgba.copy(), model.geom_group.copy(), model.tex_data.copy()
  hints = np.flatnonzero((model.geom_rgba[:, 3] < 1) & (model.geom_group < 3))
  with rendering.Renderer(stack, size=(60, 80)) as renderer:
    picture = renderer.render()
  assert hints.size
  model.geom_rgba[hints] = 0
  with rendering.Renderer(stack, size=(60, 80)) as renderer:
    without = renderer.render()
  model.geom_rgba[:] = before[0]
  np.testing.assert_array_equal(picture, without)
  np.testing.assert_array_equal(model.geom_group, before[1])
  np.testing.assert_array_equal(model.tex_data, before[2])


def test_draws_the_present_state(stack: stepping.ManipulationEnvironment) -> None:
  start = stack.get_state()
  action = np.full(9, 0.5, np.float32)
  with rendering.Renderer(stack, size=(60, 80)) as renderer:
    first = renderer.render()
    for _ in range(10):
      stack.step(action)
    moved = renderer.render()
    stack.set_state(start)
    again = renderer.render()
  assert (first != moved).any(-1).mean() > 0.02
  np.testing.assert_array_equal(first, again)


def test_two_renderers_do_not_disturb_each_other(
  stack: stepping.ManipulationEnvironment,
) -> None:
  other = tasks.load('lift_brick', seed=1)
  other.reset()
  with rendering.Renderer(stack, size=(60, 80)) as a:
    alone = a.render()
    with rendering.Renderer(other, size=(30, 40)) as b:
      assert b.render().shape == (30, 40, 3)
      np.testing.assert_array_equal(a.render(), alone)


def test_closed_renderer_refuses(stack: stepping.ManipulationEnvironment) -> None:
  renderer = rendering.Renderer(stack, size=(30, 40))
  renderer.close()
  renderer.close()
  with pytest.raises(RuntimeError, match='the renderer is closed'):
    renderer.render()


def test_size_is_checked(stack: stepping.ManipulationEnvironment) -> None:
  with pytest.raises(
    ValueError, match=r'size is \(0, 80\); expected \(height, width\)'
  ):
    rendering.Renderer(stack, size=(0, 80))


def test_choose_gl_names_a_backend_that_draws() -> None:
  backend = rendering.choose_gl()
  assert backend in ('egl', 'osmesa', 'glfw')
  rendering.draw_test_frame(backend)  # Raises if the picture is not right.


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


def test_choose_gl_respects_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(gl, '_probe', lambda backend: '')
  monkeypatch.setenv('MUJOCO_GL', 'osmesa')
  assert gl.choose_gl() == 'osmesa'


def test_choose_gl_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(gl, '_probe', lambda backend: f'OSError: no lib of {backend}')
  monkeypatch.delenv('MUJOCO_GL', raising=False)
  with pytest.raises(RuntimeError) as info:
    gl.choose_gl()
  assert 'apt-get install libosmesa6' in str(info.value)
  assert 'apt-get install libegl1' in str(info.value)
  assert 'egl: OSError: no lib of egl' in str(info.value)
  assert 'osmesa: OSError: no lib of osmesa' in str(info.value)


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
