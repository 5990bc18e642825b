"""Runs one node: `run`, or by hand `python -m launch_configs.entry RUN_DIR ROLE INDEX`.

Everything the node needs is read from the run directory; nothing is pickled, so the
same serves the local launcher, a cluster's job (both through `nursery`), or somebody
who looks at one node by hand. Exit status: 0 the node's work is done, 143 it was asked
to stop, 75 a server it uses has moved, 1 it failed, with its traceback and role printed
last.
"""

import argparse
from collections.abc import Mapping
import ctypes
import faulthandler
import os
import pathlib
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

from absl import logging

from launch_configs import loopback
from launch_configs import run_directory
from metamimic import config

LAUNCHER_VARIABLE = 'METAMIMIC_LAUNCHER_PID'
"""Environment variable with the process id of the launcher that owns a node."""

SIGNALLED = 128
"""Exit statuses from here on say by which signal a process was ended."""

STOPPED = SIGNALLED + signal.SIGTERM
"""Exit status of a node that left because it was asked to."""

MOVED = 75
"""Exit status of a node that left because a server it uses is at another address now:
it has to be started again to find it there."""

THREAD_LIMITS = dict.fromkeys(
  (
    'OMP_NUM_THREADS',
    'MKL_NUM_THREADS',
    'TF_NUM_INTRAOP_THREADS',
    'TF_NUM_INTEROP_THREADS',
  ),
  '1',
)
"""Environment variables of a node, if nothing else is asked for."""
_PR_SET_PDEATHSIG = 1
_VISIBLE = 'CUDA_VISIBLE_DEVICES'
_GPUS = 'METAMIMIC_GPUS'  # What the launcher's own of these was, if it was set.
_CHECK_PERIOD = 1.0


def command(run_dir: pathlib.Path, role: str, index: int) -> list[str]:
  """Returns the command that runs one node, as `ps` shows it."""
  module = 'launch_configs.entry'
  return [sys.executable, '-m', module, str(run_dir), role, str(index)]


def environment(
  inherited: Mapping[str, str], library: pathlib.Path, host: str = loopback.HOST
) -> dict[str, str]:
  """Returns the environment variables of a node.

  Args:
    inherited: the launcher's own; thread limits found there are kept, but OpenBLAS's.
    library: what `loopback.build_library` returned.
    host: this host's address on which its servers listen.
  """
  checkout = str(pathlib.Path(__file__).resolve().parents[1])
  path = [checkout, *filter(None, [inherited.get('PYTHONPATH')])]
  return {
    **THREAD_LIMITS,
    'TF_CPP_MIN_LOG_LEVEL': '2',
    # Several learners may share one GPU.
    'TF_FORCE_GPU_ALLOW_GROWTH': 'true',
    **inherited,
    **({_GPUS: inherited[_VISIBLE]} if _VISIBLE in inherited else {}),
    _VISIBLE: '',
    # Its threads would begin with the import of NumPy, before nodes are forked.
    'OPENBLAS_NUM_THREADS': '1',
    'LD_PRELOAD': f'{library} {inherited.get("LD_PRELOAD", "")}'.strip(),
    'PYTHONPATH': os.pathsep.join(path),
    'PYTHONUNBUFFERED': '1',
    loopback.HOST_VARIABLE: host,
    LAUNCHER_VARIABLE: str(os.getpid()),
  }


def main() -> None:
  """Runs the node named on the command line and leaves the process."""
  die_with_launcher()
  parser = argparse.ArgumentParser(prog='python -m launch_configs.entry')
  parser.add_argument('run_dir', type=pathlib.Path, help='directory of the run')
  parser.add_argument('role', help='replay, learner, actor or evaluator')
  parser.add_argument('index', type=int, help='which one of that role, from 0')
  args = parser.parse_args()
  run(args.run_dir, args.role, args.index)


def run(run_dir: pathlib.Path, role: str, index: int) -> NoReturn:
  """Runs a node in this process, on its main thread, and leaves the process.

  Args:
    run_dir: directory of the run.
    role: replay, learner, actor or evaluator.
    index: which one of that role, from 0.
  """
  name = f'{role}-{index}'
  faulthandler.enable()
  # The supervisor asks with SIGUSR1 where a node hangs before it kills it.
  faulthandler.register(signal.SIGUSR1, all_threads=True)
  stop, made = threading.Event(), threading.Event()
  received = _set_on_signal(stop, made)
  status = 1
  try:
    _run(run_dir, role, index, stop, made)
    status = STOPPED if received or stop.is_set() else 0
  except BaseException as e:
    if isinstance(e, InterruptedError) and stop.is_set():
      print(f'{name}: {e}')
      status = STOPPED
    else:
      _report(name)
  sys.stdout.flush()
  sys.stderr.flush()
  # A Reverb thread that waits for a server which is gone would keep the process.
  os._exit(status)


def die_with_launcher() -> None:
  """Sees to it that this process ends when its parent does, if that is the launcher."""
  launcher = os.environ.get(LAUNCHER_VARIABLE)
  if launcher is None:
    return
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  # It may have died before the call above.
  if os.getppid() != int(launcher):
    os._exit(1)


def _set_on_signal(stop: threading.Event, made: threading.Event) -> list[int]:
  # A Python signal handler runs between two instructions of the main thread: never
  # while that is inside Reverb, and fatally while it holds the event's own lock. The
  # wake-up file is written at once, by C, and read on a thread.
  received: list[int] = []
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  for signum in (signal.SIGTERM, signal.SIGINT):
    signal.signal(signum, lambda signum, frame: received.append(signum))

  def listen() -> None:
    while signum := os.read(reader, 1):
      if signum[0] in (signal.SIGTERM, signal.SIGINT):
        stop.set()
        # What takes seconds to import and to make has nothing to save.
        if not made.is_set():
          os._exit(STOPPED)

  threading.Thread(target=listen, daemon=True).start()
  return received


def _report(name: str) -> None:
  sys.stdout.flush()
  traceback.print_exc()
  print(f'{name} failed: {sys.exc_info()[1]!r}', file=sys.stderr)


def import_all() -> None:
  """Imports what nodes need, and starts no thread."""
  from agents import builder
  from launch_configs import program

  del builder, program


def make_program(
  run_dir: pathlib.Path,
  settings: config.Config,
  stop: threading.Event,
  made: threading.Event,
  num_actors: int | None = None,
) -> Any:
  """Returns the program of a run.

  Args:
    run_dir: its directory.
    settings: its configuration.
    stop: set when the nodes of this process shall leave.
    made: is set when the node of this process has been made.
    num_actors: how many there are; None: as many as the settings say.
  """
  from launch_configs import program

  def make_builder() -> program.Builder:
    from agents import builder

    return builder.Builder(settings, str(run_dir), stop)

  return program.make_program(settings, make_builder, made.set, num_actors)


def _use_gpus() -> None:
  """Lets TensorFlow see the GPUs that the launcher may use.

  Raises:
    RuntimeError: it sees none.
  """
  if LAUNCHER_VARIABLE in os.environ:
    del os.environ[_VISIBLE]
    if _GPUS in os.environ:
      os.environ[_VISIBLE] = os.environ[_GPUS]
  import tensorflow as tf

  if not tf.config.list_physical_devices('GPU'):
    raise RuntimeError(
      f'gpu: TensorFlow {tf.__version__} finds no GPU on {socket.gethostname()} '
      f'(built for CUDA: {tf.test.is_built_with_cuda()}; CUDA_VISIBLE_DEVICES: '
      f'{os.environ.get(_VISIBLE, "not set")}; LD_LIBRARY_PATH: '
      f'{os.environ.get("LD_LIBRARY_PATH", "not set")})'
    )


def _run(
  run_dir: pathlib.Path,
  role: str,
  index: int,
  stop: threading.Event,
  made: threading.Event,
) -> None:
  # TensorFlow and Reverb take seconds to import: only once this process is sure to
  # die with its launcher and answers signals.
  from launch_configs import program

  logging.set_verbosity(logging.INFO)
  settings = config.load(str(run_dir / 'config.json'))
  if role == 'learner' and settings.gpu:
    _use_gpus()
  num_actors = len(settings.actors)
  if role == 'actor' and num_actors:
    # A cluster may have more of them, and not always as many.
    num_actors = max(num_actors, index + 1)
  topology = make_program(run_dir, settings, stop, made, num_actors)
  place = program.find(topology, role, index)
  # Only servers have any business beyond loopback.
  host = os.environ.get(loopback.HOST_VARIABLE) if place.serves else None
  host = host or loopback.HOST
  claim = _claim(run_dir, role, host) if place.serves else None
  used: dict[str, str] = {}
  threading.Thread(
    target=_watch, args=(run_dir, f'{role}-{index}', host, claim, used), daemon=True
  ).start()
  own = _address(claim) if claim else ''

  def address_of(server: str) -> str:
    if own and server == role:
      return own
    used[server] = run_directory.wait_for_address(
      run_dir, server, stop, remind=settings.stall_warning
    )
    return used[server]

  program.run_node(topology, place, address_of)


def _claim(run_dir: pathlib.Path, role: str, host: str) -> socket.socket:
  """Claims a server's port: that of the one before, whose clients look for it there."""
  before = run_directory.published_address(run_dir, role) or ''
  there, _, port = before.rpartition(':')
  return loopback.claim_port(int(port) if there == host else 0, host)


def _address(claim: socket.socket) -> str:
  host, port = claim.getsockname()
  return f'{host}:{port}'


def _watch(
  run_dir: pathlib.Path,
  name: str,
  host: str,
  claim: socket.socket | None,
  used: Mapping[str, str],
) -> None:
  """Looks after a node's sockets and the addresses that it uses.

  Args:
    run_dir: of the run.
    name: of the node.
    host: the address on which it may listen; if on another one, it is ended.
    claim: of a server, whose address is published once it listens.
    used: addresses of other servers by role; if one moves, the node has to go, because
      a client of Reverb looks for its server where it was.
  """
  try:
    while True:
      ports = loopback.listening_ports(host)
      if claim is not None and claim.getsockname()[1] in ports:
        address = _address(claim)
        claim.close()
        claim = None
        run_directory.publish_address(run_dir, name.rpartition('-')[0], address)
      for server, before in list(used.items()):
        now = run_directory.published_address(run_dir, server)
        if now not in (None, before):
          print(f'{name}: {server} moved from {before} to {now}', flush=True)
          os._exit(MOVED)
      time.sleep(_CHECK_PERIOD if claim is None else 0.05)
  except BaseException:
    _report(name)
    sys.stderr.flush()
    os._exit(1)


if __name__ == '__main__':
  main()
