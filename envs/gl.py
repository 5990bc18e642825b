"""Which OpenGL library draws here.

Imports neither mujoco nor dm_control: with a MUJOCO_GL whose library is missing those
two cannot be imported, and this module is to say so.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import os
import re
import subprocess
import sys

_AUTOMATIC = ('egl', 'osmesa')  # In this order: EGL reaches a GPU, OSMesa cannot.
_BACKENDS = _AUTOMATIC + ('glfw',)
_OFF = ('disable', 'disabled', 'off', 'false', '0')
_ON = ('enable', 'enabled', 'on', 'true', '1', '')
_INSTALL = (
  'Install one that needs no display, either of\n'
  '  apt-get install libosmesa6\n'
  '  apt-get install libegl1 libgl1'
)
_PROBE_SECONDS = 60.0


@functools.cache
def choose_gl() -> str:
  """Returns the name of an OpenGL backend that draws on this machine.

  It is the one that the variable MUJOCO_GL names; where that is unset, the first of
  egl and osmesa that works. Each is tried by drawing a frame in a process of its own,
  since a GL library that fails may take its process with it. The answer is kept for
  the life of this process.

  Raises:
    RuntimeError: no backend works, or not the one asked for; the message says why, and
      names the Debian packages and the command that installs them.
  """
  asked = os.environ.get('MUJOCO_GL', '').strip().lower()
  if asked in _OFF:
    raise RuntimeError(
      f'MUJOCO_GL is {asked!r}, which switches rendering off; unset it to render'
    )
  if asked not in _BACKENDS + _ON:
    raise RuntimeError(f'MUJOCO_GL is {asked!r}; expected one of {_BACKENDS}')
  faults = []
  for backend in _AUTOMATIC if asked in _ON else (asked,):
    fault = _probe(backend)
    if not fault:
      return backend
    faults.append(f'  {backend}: {fault}')
  reason = 'MUJOCO_GL names it' if asked in _BACKENDS else 'MUJOCO_GL is not set'
  raise RuntimeError(
    f'cannot render ({reason}); tried\n' + '\n'.join(faults) + f'\n{_INSTALL}'
  )


@contextlib.contextmanager
def keep_current(backend: str) -> Iterator[None]:
  """Makes the thread's GL context current again that was so before, if any.

  dm_control remembers which of its contexts it made current, and takes for granted that
  it still is.

  Args:
    backend: what `choose_gl` returned, MuJoCo's module for which has been imported:
      PyOpenGL takes its platform from there. Under OSMesa, dm_control draws in a thread
      of its own, and nothing has to be done.
  """
  keep = {'egl': _keep_egl, 'glfw': _keep_glfw}.get(backend)
  restore = keep() if keep else None
  try:
    yield
  finally:
    if restore:
      restore()


def _keep_egl() -> Callable[[], object] | None:
  # Only now, here and below: importing these loads a library.
  from OpenGL import EGL

  context = EGL.eglGetCurrentContext()
  if not context:
    return None
  display = EGL.eglGetCurrentDisplay()
  surfaces = [EGL.eglGetCurrentSurface(kind) for kind in (EGL.EGL_DRAW, EGL.EGL_READ)]
  return lambda: EGL.eglMakeCurrent(display, *surfaces, context)


def _keep_glfw() -> Callable[[], object] | None:
  import glfw

  context = glfw.get_current_context()
  return functools.partial(glfw.make_context_current, context) if context else None


def _probe(backend: str) -> str:
  """Draws a frame with `backend` in another process; returns what went wrong."""
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  # The parent's dm_control may have set PYOPENGL_PLATFORM for a backend that it could
  # import but that cannot draw.
  environment = {k: v for k, v in os.environ.items() if k != 'PYOPENGL_PLATFORM'}
  environment['MUJOCO_GL'] = backend
  code = f'from envs import rendering; rendering.draw_test_frame({backend!r})'
  try:
    done = subprocess.run(
      [sys.executable, '-c', code],
      cwd=root,
      env=environment,
      capture_output=True,
      text=True,
      timeout=_PROBE_SECONDS,
    )
  except subprocess.TimeoutExpired:
    return f'no frame within {_PROBE_SECONDS:.0f} s'
  if not done.returncode:
    return ''
  # The first exception: what destructors raise after it says nothing.
  error = re.search(r'^[\w.]*(Error|Exception)\b.*', done.stderr, re.MULTILINE)
  return error.group() if error else f'exit status {done.returncode}'
