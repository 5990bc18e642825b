"""Pictures of an environment's present state, quick even without a GPU.

The renderer draws from a copy of the model, so its settings (no shadows, coarse
primitives, hidden goal hints, a lighter floor) reach neither the physics nor anybody
else's pictures. It makes its own GL context and therefore does not care in which order
dm_control, mujoco and this module were imported.
"""

import atexit
import copy
import importlib
import os
from typing import Any

import mujoco
import numpy as np
from PIL import Image

from envs import gl

choose_gl = gl.choose_gl

_HIDDEN_GROUP = 5  # MuJoCo draws groups 0 to 2 unless told otherwise.
_LIGHTEN = 120  # Of 255: the dark arm does not stand out on dm_control's dark floor.
_SCALE = 2  # Pixels drawn along each side of a pixel shown.


def draw_test_frame(backend: str) -> None:
  """Draws a white sphere with the GL library of `backend`.

  Raises:
    RuntimeError: it is not white in the picture. Whatever a GL library raises comes
      through as it is.
  """
  model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom size="1" rgba="1 1 1 1"/>'
    '</worldbody></mujoco>'
  )
  data = mujoco.MjData(model)
  mujoco.mj_forward(model, data)
  camera = mujoco.MjvCamera()
  mujoco.mjv_defaultFreeCamera(model, camera)
  canvas = _Canvas(backend, model, 32, 32)
  try:
    frame = canvas.draw(data, camera)
  finally:
    canvas.close()
  if frame[16, 16].min() < 64:
    raise RuntimeError(f'drew {frame[16, 16]} where a white sphere is')


class _Canvas:
  """One model's scene and buffers in one GL context."""

  def __init__(
    self, backend: str, model: mujoco.MjModel, height: int, width: int
  ) -> None:
    # One thread for software rendering: the other cores belong to actors and learner.
    # (More threads spend the same CPU time on a frame of this size.)
    os.environ.setdefault('LP_NUM_THREADS', '0')
    library = importlib.import_module(f'mujoco.{backend}')
    model.vis.global_.offheight, model.vis.global_.offwidth = height, width
    # Read when the MjrContext is made, and never again.
    quality = model.vis.quality
    quality.offsamples = 0
    quality.numslices, quality.numstacks, quality.numquads = 12, 6, 1
    quality.shadowsize = 512
    self._model = model
    self._context: Any = library.GLContext(width, height)
    self._context.make_current()
    # Before the library's own exit handler, after which a context cannot be freed.
    atexit.register(self.close)
    self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 100)
    for flag in ('SHADOW', 'REFLECTION', 'SKYBOX', 'FOG', 'HAZE'):
      self._scene.flags[getattr(mujoco.mjtRndFlag, f'mjRND_{flag}')] = 0
    self._option = mujoco.MjvOption()
    self._option.sitegroup[:] = 0
    self._perturb = mujoco.MjvPerturb()
    self._mujoco = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._mujoco)
    self._rectangle = mujoco.MjrRect(0, 0, width, height)
    self._pixels = np.empty((height, width, 3), np.uint8)

  def draw(self, data: mujoco.MjData, camera: mujoco.MjvCamera) -> np.ndarray:
    """Returns the picture, bottom row first; the next call overwrites it."""
    if self._context is None:
      raise RuntimeError('the renderer is closed')
    self._context.make_current()
    # MuJoCo's headlight stands where the scene's camera was before the update.
    mujoco.mjv_updateCamera(self._model, data, camera, self._scene)
    mujoco.mjv_updateScene(
      self._model,
      data,
      self._option,
      self._perturb,
      camera,
      mujoco.mjtCatBit.mjCAT_ALL,
      self._scene,
    )
    mujoco.mjr_render(self._rectangle, self._scene, self._mujoco)
    mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._mujoco)
    return self._pixels

  def close(self) -> None:
    """Frees the context; a second call does nothing."""
    if self._context is not None:
      atexit.unregister(self.close)
      self._mujoco.free()
      self._context.free()
      self._context = None


class Renderer:
  """Draws an environment from in front of the arm, for people to look at.

  Goal hints (translucent bricks) and the sites that mark spawn areas are left out.
  Close it, or use it in a `with` statement: GL contexts are few.
  """

  def __init__(self, env: Any, size: tuple[int, int] = (240, 320)) -> None:
    """Makes a GL context of its own.

    Args:
      env: has a `physics` of dm_control, whose model it keeps.
      size: height and width of the pictures, in pixels.

    Raises:
      RuntimeError: this machine cannot render; see `choose_gl`.
      ValueError: `size` is not two positive numbers.
    """
    if len(size) != 2 or min(size) < 1:
      raise ValueError(f'size is {size}; expected (height, width), each above 0')
    self._data = env.physics.data.ptr
    model = copy.copy(env.physics.model.ptr)
    model.geom_group[model.geom_rgba[:, 3] < 1] = _HIDDEN_GROUP
    model.tex_data[:] = _LIGHTEN + model.tex_data * ((255 - _LIGHTEN) / 255)
    planes = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    model.geom_size[planes, :2] = 0  # Infinite, so that no black shows behind it.
    model.vis.global_.fovy = 42
    self._canvas = _Canvas(choose_gl(), model, size[0] * _SCALE, size[1] * _SCALE)
    self._camera = mujoco.MjvCamera()
    self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    self._camera.lookat[:] = 0, 0.02, 0.16
    self._camera.distance, self._camera.azimuth = 0.8, 90
    self._camera.elevation = -34

  def render(self) -> np.ndarray:
    """Returns uint8 (height, width, 3): the present state, anti-aliased."""
    picture = self._canvas.draw(self._data, self._camera)
    # As costly as OpenGL's 4x multisampling in software, and it smooths textures too.
    return np.asarray(Image.fromarray(picture).reduce(_SCALE))[::-1].copy()

  def close(self) -> None:
    """Gives the GL context back; the renderer is of no use afterwards."""
    self._canvas.close()

  def __enter__(self) -> 'Renderer':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()
