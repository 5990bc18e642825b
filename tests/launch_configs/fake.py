"""Stand-ins for what a run consists of, run as scripts in processes of their own.

`python fake.py local FLAGS` is launch_configs.local, and so are slurm, job, nursery and
entry those of launch_configs, with nodes whose behaviour the "demonstrations" file
says: JSON, node name -> behaviour. With FAKE_REVERB set the program is the real one,
with a Reverb server; else there is none, and a node starts in a tenth of a second.
FAKE_POLICY is JSON, too: fields of restarts.Policy, for every role. FAKE_HOST is the
address of this host in whatever network. FAKE_IMPORT says what importing does instead.
With FAKE_FORK, a file that is not there yet, the nursery dies once: when it has forked
a node, and written its process id there.
"""

from collections.abc import Callable
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from typing import Any

from launch_configs import entry
from launch_configs import job
from launch_configs import local
from launch_configs import loopback
from launch_configs import nursery
from launch_configs import restarts
from launch_configs import run_directory
from launch_configs import slurm
from launch_configs import supervisor
import metamimic
from metamimic import config


class FakeBuilder:
  """As `agents.builder.Builder`, with nothing in it."""

  def __init__(
    self, settings: config.Config, run_dir: str, stop: threading.Event
  ) -> None:
    self.settings = settings
    self.run_dir = pathlib.Path(run_dir)
    self.stop = stop
    self.behaviours = json.loads(pathlib.Path(settings.demonstrations).read_text())

  def replay_tables(self) -> list[Any]:
    import reverb

    return [reverb.Table.queue('experience', 1_000_000)]

  def replay_checkpointer(self) -> Any:
    import reverb

    path = str(self.run_dir / 'replay')
    return reverb.platform.checkpointers_lib.DefaultCheckpointer(path)

  def learner(self, replay: Any, index: int) -> 'Worker':
    name = self.settings.learners[index]
    return Worker(self, f'learner-{index}', lambda: self.learn(replay, name))

  def actor(self, replay: Any, index: int) -> 'Worker':
    name = self.settings.acts_for(index)
    return Worker(self, f'actor-{index}', lambda: self.act(replay, name), replay)

  def evaluator(self, replay: Any) -> 'Worker':
    del replay
    return Worker(self, 'evaluator-0', self.evaluate)

  def learn(self, replay: Any, name: str) -> None:
    while replay is not None and replay.server_info()['experience'].current_size < 3:
      if self.stop.wait(0.05):
        return
    last = self.settings.last_step(name)
    for step in range(last // 10, last + 1, last // 10):
      self.log_step(name, step)
      if self.stop.wait(0.02):
        return
    self.learnt(name).touch()

  def log_step(self, name: str, step: int) -> None:
    log = self.run_dir / 'logs' / f'learner-{name}.csv'
    if not log.exists():
      log.write_text('wall_time,learner_steps,environment_steps,replay_size\n')
    with open(log, 'a') as f:
      f.write(f'{time.time()},{step},{2 * step},{2 * step}\n')

  def learnt(self, name: str) -> pathlib.Path:
    return self.run_dir / f'learnt-{name}'

  def act(self, replay: Any, name: str) -> None:
    while not self.learnt(name).exists():
      if replay is not None:
        replay.insert(1.0, {'experience': 1.0})
      if self.stop.wait(0.05):
        return

  def write(self, replay: Any) -> None:
    for _ in range(200):
      replay.insert(1.0, {'experience': 1.0})
    (self.run_dir / f'wrote-{os.getpid()}').touch()
    self.stop.wait()

  def evaluate(self) -> None:
    while not all(self.learnt(name).exists() for name in self.settings.learners):
      if self.stop.wait(0.05):
        return
    (self.run_dir / 'logs' / 'evaluator.csv').write_text(
      'wall_time,learner_steps,arm,split,episodes,reward,completed,success\n'
      '1,600,metamimic,train,2,0.5,0.625,0.5\n'
      '1,600,metamimic,valid,2,0.375,0.5,0.5\n'
      '1,600,replay,valid,2,0.875,1.0,1.0\n'
      '1,600,zero,valid,2,0.25,0.125,0.0\n'
    )
    done = {name: self.settings.last_step(name) for name in self.settings.learners}
    summary = {'learner_steps': done}
    (self.run_dir / 'summary.json').write_text(json.dumps(summary))


class Worker:
  """Does the work of a node, or what its behaviour says instead."""

  def __init__(
    self,
    builder: FakeBuilder,
    name: str,
    work: Callable[[], object],
    replay: Any = None,
  ) -> None:
    self._builder = builder
    self._name = name
    self._behaviour = builder.behaviours.get(name, 'work')
    self._behaviours: dict[str, Callable[[], object]] = {
      'work': work,
      'wait': builder.stop.wait,
      'write': lambda: builder.write(replay),
      'leave': lambda: None,
      'raise': self._raise,
      'raise anew': self._raise_anew,
      'die': self._die,
      'say': self._say,
      'progress': self._progress,
      'tarry': self._tarry,
      'deaf': self._deaf,
      'listen': self._listen,
      'move': self._move,
      'child': self._child,
    }

  def run(self) -> None:
    print(f'behaviour: {self._behaviour}', flush=True)
    self._behaviours[self._behaviour]()

  def _raise(self) -> None:
    time.sleep(0.3)
    raise ValueError('the brick is gone')

  def _raise_anew(self) -> None:
    time.sleep(0.3)
    raise ValueError(f'the brick is gone since {time.time()}')

  def _say(self) -> None:
    self._log_step(1)
    print('WARNING:absl:waiting 99 s for a sign', flush=True)
    self._builder.stop.wait()

  def _progress(self) -> None:
    step = 0
    while not self._builder.stop.wait(0.1):
      step += 1
      self._log_step(step)

  def _tarry(self) -> None:
    self._log_step(self._builder.settings.learner_steps)
    print('WARNING:absl:waiting 99 s for a sign', flush=True)
    self._builder.stop.wait()

  def _log_step(self, step: int) -> None:
    index = int(self._name.rpartition('-')[2])
    self._builder.log_step(self._builder.settings.learners[index], step)

  def _die(self) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

  def _deaf(self) -> None:
    while True:
      time.sleep(1)

  def _listen(self) -> None:
    server = socket.socket()
    server.bind(('', 0))
    server.listen()
    self._builder.stop.wait()

  def _move(self) -> None:
    run_directory.publish_address(self._builder.run_dir, 'other', '127.0.0.9:1')
    run_directory.publish_address(self._builder.run_dir, 'replay', '127.0.0.9:1')
    self._builder.stop.wait()

  def _child(self) -> None:
    child = subprocess.Popen(['sleep', '1000'])
    (self._builder.run_dir / 'child').write_text(str(child.pid))
    self._builder.stop.wait()


class FakeProgram:
  """As `lp.Program`, with nothing in it."""

  def __init__(
    self,
    settings: config.Config,
    make_builder: Callable[[], FakeBuilder],
    on_made: Callable[[], object] = lambda: None,
    num_actors: int | None = None,
  ) -> None:
    self.settings = settings
    self.num_actors = len(settings.actors) if num_actors is None else num_actors
    self.make_builder = make_builder
    self.on_made = on_made


def places(topology: FakeProgram) -> list[supervisor.Node]:
  """As `program.places`."""
  names = [('replay', 0)]
  names += [('learner', i) for i in range(len(topology.settings.learners))]
  names += [('evaluator', 0)]
  names += [('actor', i) for i in range(topology.num_actors)]
  return [supervisor.Node(r, i, r == 'replay') for r, i in names]


def find(topology: FakeProgram, role: str, index: int) -> supervisor.Node:
  """As `program.find`."""
  return next(p for p in places(topology) if (p.role, p.index) == (role, index))


def run_node(
  topology: FakeProgram, place: supervisor.Node, address_of: Callable[[str], str]
) -> None:
  """As `program.run_node`; the server only listens."""
  builder = topology.make_builder()
  topology.on_made()
  if place.serves:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    host, _, port = address_of('replay').rpartition(':')
    server.bind((host, int(port)))
    if builder.behaviours.get('replay-0') != 'wait':
      server.listen()
    Worker(builder, 'replay-0', builder.stop.wait).run()
    return
  address_of('replay')
  if place.role == 'evaluator':
    builder.evaluator(None).run()
  else:
    getattr(builder, place.role)(None, place.index).run()


def prepare(settings: config.Config, run_dir: str | None = None) -> None:
  """As `metamimic.preparation.prepare`; the file has to be JSON."""
  json.loads(pathlib.Path(settings.demonstrations).read_text())
  if run_dir is not None:
    (pathlib.Path(run_dir) / 'run.json').write_text('{}')


def import_all() -> None:
  """As `entry.import_all`, or what FAKE_IMPORT says instead."""
  what = os.environ.get('FAKE_IMPORT')
  if what == 'raise':
    raise ImportError('the brick is gone')
  if what == 'thread':
    threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
  if 'FAKE_REVERB' in os.environ:
    import reverb

    del reverb


def command(run_dir: pathlib.Path) -> list[str]:
  """As `nursery.command`."""
  return [sys.executable, __file__, 'nursery', str(run_dir), ' ' * 60]


_fork = nursery._fork


def fork(
  run_dir: pathlib.Path, role: str, index: int, output: int, channel: socket.socket
) -> int:
  """As `nursery._fork`, but may die before anybody knows of the node."""
  pid = _fork(run_dir, role, index, output, channel)
  told = pathlib.Path(os.environ['FAKE_FORK'])
  if not told.exists():
    told.write_text(str(pid))
    os.kill(os.getpid(), signal.SIGKILL)
  return pid


def main() -> None:
  """Puts the stand-ins in their places and runs what the command line asks for."""
  builder: Any = types.ModuleType('agents.builder')
  builder.Builder = FakeBuilder
  sys.modules['agents.builder'] = builder
  preparation: Any = types.ModuleType('metamimic.preparation')
  preparation.prepare = prepare
  sys.modules['metamimic.preparation'] = metamimic.preparation = preparation
  if 'FAKE_REVERB' not in os.environ:
    program: Any = types.ModuleType('launch_configs.program')
    program.make_program, program.Builder = FakeProgram, FakeBuilder
    program.places, program.find, program.run_node = places, find, run_node
    sys.modules['launch_configs.program'] = program
  what = sys.argv.pop(1)
  run_directory.STARTUP_TIMEOUT = float(os.environ.get('FAKE_TIMEOUT', '60'))
  entry.import_all = import_all
  if 'FAKE_FORK' in os.environ:
    nursery._fork = fork
  if what in ('entry', 'nursery'):
    {'entry': entry, 'nursery': nursery}[what].main()
  else:
    nursery.command = command
    policy = restarts.Policy(
      **{
        'grace': 1.0,
        'first_pause': 0.1,
        **json.loads(os.environ.get('FAKE_POLICY', '{}')),
      }
    )
    roles = ('replay', 'learner', 'actor', 'evaluator')
    restarts.POLICIES = dict.fromkeys(roles, policy)
    loopback.host_in = lambda network: os.environ['FAKE_HOST']
    job.PERIOD = 0.05
    sys.exit({'local': local, 'slurm': slurm, 'job': job}[what].main())


if __name__ == '__main__':
  main()
