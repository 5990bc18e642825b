"""Pictures of an environment's states, quick even without a GPU.

Everything in a process that draws shares one GL context, and for each task one model,
which is compiled for drawing alone. Its settings (no shadows, coarse primitives and
hulls, hidden goal hints, a lighter floor) therefore reach neither the physics nor
anybody else's pictures, and a picture depends on where things are and on nothing else.
All drawing is to be done by one thread.
"""

import atexit
from collections.abc import Iterator
import contextlib
import functools
import importlib
import os
from typing import Any

from absl import logging
import mujoco
import numpy as np
from PIL import Image

from envs import gl
from envs import pictures as pictures_lib

choose_gl = gl.choose_gl

# MuJoCo draws groups 0 to 2 unless told otherwise.
_FINE_GROUP, _HIDDEN_GROUP = 4, 5
_FINE = 0.007  # m: parts that are thinner hardly show, as the studs of bricks.
_LIGHTEN = 120  # Of 255: the dark arm does not stand out on dm_control's dark floor.
_SCALE = 2  # Pixels drawn along each side of a pixel shown.
# Half the side of the floor, m: no camera sees its edge. MuJoCo's infinite planes take
# most of a picture's time.
_FLOOR = 4.0
_HULL_VERTICES = 30
_PLAIN = 0.4  # Of white: a floor without texture, between the arm and its fingers.
_MOUNTED = 'drawing/'  # What the names of cameras begin with that hands carry.
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def draw_test_frame(backend: str) -> str:
  """Draws a white sphere with the GL library of `backend`.

  Returns:
    What it calls its device.

  Raises:
    RuntimeError: it is not white in the picture. Whatever a GL library raises comes
      through as it is.
  """
  model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom size="1" rgba="1 1 1 1"/>'
    '</worldbody></mujoco>'
  )
  canvas = _Canvas(backend, model)
  camera = pictures_lib.Camera((0.0, 0.0, 0.0), 4.0, 90.0, -45.0)
  canvas.pose(model, mujoco.MjData(model))
  frame = canvas.draw(camera, (32, 32), coarse=True)
  canvas.free()
  if frame[16, 16].min() < 64:
    raise RuntimeError(f'drew {frame[16, 16]} where a white sphere is')
  return _context(backend).device


def device() -> str:
  """Returns what the GL library that is used here calls its device.

  Raises:
    RuntimeError: this machine cannot render; see `choose_gl`.
  """
  return _context(choose_gl()).device


class _Context:
  """The GL context of this process."""

  def __init__(self, backend: str) -> None:
    # One thread for software rendering: the other cores belong to actors and learner.
    # (More threads spend more CPU time on a frame of this size.)
    os.environ.setdefault('LP_NUM_THREADS', '0')
    self._backend = backend
    self.canvases: dict[str, _Canvas] = {}
    """By the name that dm_control has for the task."""
    library = importlib.import_module(f'mujoco.{backend}')
    with gl.keep_current(backend):
      # MuJoCo draws into buffers of its own, whatever the size of the context's.
      self._context: Any = library.GLContext(8, 8)
      # Before the library's own exit handler, after which a context cannot be freed.
      atexit.register(self._free)
      self._context.make_current()
      # Only now: importing it decides on a library.
      from OpenGL import GL

      self.device = (GL.glGetString(GL.GL_RENDERER) or b'').decode()
    logging.info('Pictures are drawn with %s: %s', backend, self.device)

  @contextlib.contextmanager
  def current(self) -> Iterator[None]:
    """Makes it current, and afterwards whatever was so before."""
    with gl.keep_current(self._backend):
      self._context.make_current()
      yield

  def _free(self) -> None:
    for canvas in self.canvases.values():
      canvas.free()
    self._context.free()


@functools.cache
def _context(backend: str) -> _Context:
  return _Context(backend)


class _Canvas:
  """One model for drawing, with its scene and buffers."""

  def __init__(self, backend: str, model: mujoco.MjModel) -> None:
    # Read when the MjrContext is made, and never again.
    quality = model.vis.quality
    quality.offsamples = 0
    quality.numslices, quality.numstacks, quality.numquads = 8, 4, 1
    quality.shadowsize = 512
    self._context = _context(backend)
    self._model = model
    self._data = mujoco.MjData(model)
    self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 100)
    for flag in ('SHADOW', 'REFLECTION', 'SKYBOX', 'FOG', 'HAZE'):
      self._scene.flags[getattr(mujoco.mjtRndFlag, f'mjRND_{flag}')] = 0
    self._option = mujoco.MjvOption()
    self._option.sitegroup[:] = 0
    self._perturb = mujoco.MjvPerturb()
    self._camera = mujoco.MjvCamera()
    with self._context.current():
      self._mujoco = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    self._textured = model.mat_texid.max(axis=1, initial=-1) >= 0
    self._pixels: dict[tuple[int, int], np.ndarray] = {}
    self._mounted = {
      view: mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, _MOUNTED + name)
      for name, view in pictures_lib.CAMERAS.items()
      if view.in_hand
    }

  def pose(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Puts everything where it is in `data`, or for what is fixed, in `model`."""
    # Some tasks keep in the model where they have put something for an episode.
    self._model.body_pos[:] = model.body_pos
    self._model.body_quat[:] = model.body_quat
    self._data.qpos[:] = data.qpos
    self._data.mocap_pos[:] = data.mocap_pos
    self._data.mocap_quat[:] = data.mocap_quat
    self._place()

  def pose_state(self, model: mujoco.MjModel, state: np.ndarray) -> None:
    """Does the same for a state of `ManipulationEnvironment.get_state`."""
    self._model.body_pos[:] = model.body_pos
    self._model.body_quat[:] = model.body_quat
    mujoco.mj_setState(self._model, self._data, state, _STATE)
    self._place()

  def _place(self) -> None:
    # All that a picture needs; the rest of the physics would take longer than drawing.
    mujoco.mj_kinematics(self._model, self._data)
    mujoco.mj_camlight(self._model, self._data)

  def draw(
    self, view: pictures_lib.Camera, size: tuple[int, int], coarse: bool
  ) -> np.ndarray:
    """Returns the picture, anti-aliased, uint8 (height, width, 3).

    Args:
      view: where to look from.
      size: height and width, in pixels.
      coarse: see `Renderer`.
    """
    height, width = (_SCALE * n for n in size)
    camera, scene = self._camera, self._scene
    if view.in_hand:
      camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
      camera.fixedcamid = self._mounted[view]
    else:
      camera.type = mujoco.mjtCamera.mjCAMERA_FREE
      camera.lookat[:] = view.target
      camera.distance = view.distance
      camera.azimuth, camera.elevation = view.azimuth, view.elevation
      self._model.vis.global_.fovy = view.field_of_view
    self._option.flags[mujoco.mjtVisFlag.mjVIS_CONVEXHULL] = coarse
    self._option.flags[mujoco.mjtVisFlag.mjVIS_TEXTURE] = not coarse
    self._option.geomgroup[_FINE_GROUP] = not coarse
    self._model.mat_rgba[self._textured, :3] = _PLAIN if coarse else 1.0
    # MuJoCo's headlight stands where the scene's camera was before the update.
    mujoco.mjv_updateCamera(self._model, self._data, camera, scene)
    mujoco.mjv_updateScene(
      self._model,
      self._data,
      self._option,
      self._perturb,
      camera,
      mujoco.mjtCatBit.mjCAT_ALL,
      scene,
    )
    with self._context.current():
      pixels = self._pixels_of(height, width)
    # Cheaper than OpenGL's 4x multisampling in software, and it smooths textures too.
    return np.asarray(Image.fromarray(pixels).reduce(_SCALE))[::-1].copy()

  def _pixels_of(self, height: int, width: int) -> np.ndarray:
    """Draws the scene into a buffer that the next of this size uses again."""
    # Another canvas may have bound its own since.
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._mujoco)
    if height > self._mujoco.offHeight or width > self._mujoco.offWidth:
      mujoco.mjr_resizeOffscreen(
        max(width, self._mujoco.offWidth),
        max(height, self._mujoco.offHeight),
        self._mujoco,
      )
    rectangle = mujoco.MjrRect(0, 0, width, height)
    pixels = self._pixels.get((height, width))
    if pixels is None:
      pixels = np.empty((height, width, 3), np.uint8)
      self._pixels[height, width] = pixels
    mujoco.mjr_render(rectangle, self._scene, self._mujoco)
    mujoco.mjr_readPixels(pixels, None, rectangle, self._mujoco)
    return pixels

  def free(self) -> None:
    """Frees the buffers."""
    with self._context.current():
      self._mujoco.free()


def _mount(
  spec: mujoco.MjSpec, hand: str, name: str, view: pictures_lib.Camera
) -> None:
  """Adds a camera to a hand.

  Args:
    spec: of a model.
    hand: name of the site that the camera's place refers to.
    name: of the camera.
    view: where to look from.
  """
  site = spec.site(hand)
  azimuth, elevation = np.radians([view.azimuth, view.elevation])
  # MuJoCo's own convention for what looks from somewhere in the world.
  forward = np.array(
    [
      np.cos(elevation) * np.cos(azimuth),
      np.cos(elevation) * np.sin(azimuth),
      np.sin(elevation),
    ]
  )
  right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
  axes = np.stack([right, np.cross(right, forward), -forward], axis=1)
  frame, quat = np.empty(9), np.empty(4)
  mujoco.mju_quat2Mat(frame, site.quat)
  frame = frame.reshape(3, 3)
  mujoco.mju_mat2Quat(quat, (frame @ axes).ravel())
  site.parent.add_camera(
    name=_MOUNTED + name,
    pos=site.pos + frame @ (np.array(view.target) - view.distance * forward),
    quat=quat,
    fovy=view.field_of_view,
  )


def _compile(root: Any, hand: str) -> mujoco.MjModel:
  """Returns a task's model for drawing.

  Args:
    root: the task, a dm_control.mjcf.RootElement.
    hand: name of the site between the fingertips.
  """
  spec = mujoco.MjSpec.from_string(root.to_xml_string(), assets=root.get_assets())
  for name, view in pictures_lib.CAMERAS.items():
    if view.in_hand:
      _mount(spec, hand, name, view)
  for mesh in spec.meshes:
    mesh.maxhullvert = _HULL_VERTICES
  model = spec.compile()
  # Of boxes half the middle side; of cylinders the radius or half the height.
  kinds = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
  thick = np.partition(model.geom_size, 1, axis=1)[:, 1]
  fine = np.isin(model.geom_type, kinds) & (thick < _FINE)
  model.geom_group[fine & (model.geom_group <= 2)] = _FINE_GROUP
  model.geom_group[model.geom_rgba[:, 3] < 1] = _HIDDEN_GROUP
  model.tex_data[:] = _LIGHTEN + model.tex_data * ((255 - _LIGHTEN) / 255)
  planes = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
  model.geom_size[planes, :2] = _FLOOR
  return model


class Renderer:
  """Draws an environment's states from one camera.

  Goal hints (translucent bricks) and the sites that mark spawn areas are left out.
  Renderers are cheap: those of a process share a GL context, and those of a task a
  model.
  """

  def __init__(
    self,
    env: Any,
    size: tuple[int, int] = (240, 320),
    camera: str = 'overview',
    coarse: bool = False,
  ) -> None:
    """Prepares for drawing.

    Args:
      env: a `ManipulationEnvironment`.
      size: height and width of the pictures, in pixels.
      camera: a name in `pictures.CAMERAS`.
      coarse: leaves out what costs much and shows little in a small picture: hulls
        with few vertices stand in for meshes, bricks have no studs, and the
        floor is plain.

    Raises:
      RuntimeError: this machine cannot render; see `choose_gl`.
      ValueError: `size` is not two positive numbers, or there is no such camera.
    """
    pictures_lib.check_size(size)
    self.size, self._coarse = (int(size[0]), int(size[1])), coarse
    """Height and width of the pictures, in pixels."""
    self._camera = pictures_lib.get(camera)
    self._model, self._data = env.physics.model.ptr, env.physics.data.ptr
    backend, name = choose_gl(), env.task.environment
    canvases = _context(backend).canvases
    if name not in canvases:
      canvases[name] = _Canvas(backend, _compile(env.mjcf_root, env.hand_site))
    self._canvas = canvases[name]

  def render(self) -> np.ndarray:
    """Returns uint8 (height, width, 3): the present state, anti-aliased."""
    self._canvas.pose(self._model, self._data)
    return self._canvas.draw(self._camera, self.size, self._coarse)

  def render_states(self, states: np.ndarray) -> Iterator[np.ndarray]:
    """Yields what `render` returns in each state; the environment stays where it is.

    Args:
      states: of `ManipulationEnvironment.get_state`, float64, (T, S).

    Raises:
      ValueError: the states have another size than this task's.
    """
    size = mujoco.mj_stateSize(self._model, _STATE)
    if states.shape[1:] != (size,):
      raise ValueError(f'states have shape {states.shape}; expected (T, {size})')
    for state in states:
      self._canvas.pose_state(self._model, state)
      yield self._canvas.draw(self._camera, self.size, self._coarse)
