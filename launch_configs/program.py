"""The topology of a run, written once, as a Launchpad program.

Launchpad gives the graph: groups of nodes, handles and addresses. Its own launchers
never restart or time out a node and leave orphans, so that but for Vertex AI they are
not used: each process builds the whole program, which is cheap, and runs one node of
it. This is the only module that imports Launchpad.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import pathlib
import shutil
import threading
from typing import Any, Protocol, TYPE_CHECKING
from unittest import mock

from absl import flags
import launchpad as lp
from launchpad.launch import worker_manager

from metamimic import config

if TYPE_CHECKING:
  # It imports TensorFlow, for which the launcher's checks need not wait.
  import reverb

# Vertex AI takes no more groups than this.
MAX_GROUPS = 4


class Worker(Protocol):
  """What a node runs."""

  def run(self) -> None:
    """Works until the run is done or the stop event is set."""


class Builder(Protocol):
  """What makes the nodes; see `agents.builder`."""

  def replay_tables(self) -> 'Sequence[reverb.Table]':
    """Returns every table of the replay server."""

  def replay_checkpointer(self) -> 'reverb.checkpointers.CheckpointerBase':
    """Returns what saves and restores the tables."""

  def learner(self, replay: 'reverb.Client', index: int, /) -> Worker:
    """Returns the learner of this index."""

  def actor(self, replay: 'reverb.Client', index: int, /) -> Worker:
    """Returns the actor of this index."""

  def evaluator(self, replay: 'reverb.Client', /) -> Worker:
    """Returns the evaluator."""


@dataclasses.dataclass(frozen=True)
class Place:
  """One node of a program."""

  role: str
  index: int
  serves: bool
  """Whether other nodes connect to it."""


def make_program(
  settings: config.Config,
  make_builder: Callable[[], Builder],
  on_made: Callable[[], object] = lambda: None,
  num_actors: int | None = None,
) -> lp.Program:
  """Returns the program: replay, learners, actors, evaluator.

  Args:
    settings: of the run; they say which nodes there are.
    make_builder: called, once, where a node runs; who only looks at the program does
      without all that the nodes import.
    on_made: called where a node runs, when it has been made and is about to begin.
    num_actors: how many there are; None: as many as the settings say.
  """
  builder = functools.cache(make_builder)

  def part(name: str) -> Callable[..., Any]:
    def make(*args: Any) -> Any:
      made = getattr(builder(), name)(*args)
      on_made()
      return made

    return make

  program = lp.Program('metamimic')
  with program.group('replay'):
    tables, checkpointer = part('replay_tables'), part('replay_checkpointer')
    replay = program.add_node(lp.ReverbNode(tables, checkpoint_ctor=checkpointer))
  with program.group('learner'):
    for index in range(len(settings.learners)):
      program.add_node(lp.PyClassNode(part('learner'), replay, index))
  with program.group('actor'):
    for index in range(len(settings.actors) if num_actors is None else num_actors):
      program.add_node(lp.PyClassNode(part('actor'), replay, index))
  with program.group('evaluator'):
    program.add_node(lp.PyClassNode(part('evaluator'), replay))
  return program


def places(program: lp.Program) -> list[Place]:
  """Returns the nodes of `program` in its order."""
  return [
    Place(role, index, bool(node.addresses))
    for role, nodes in program.groups.items()
    for index, node in enumerate(nodes)
  ]


def find(program: lp.Program, role: str, index: int) -> Place:
  """Returns one node of `program`.

  Raises:
    ValueError: it has no such node; the message lists those it has.
  """
  for place in places(program):
    if (place.role, place.index) == (role, index):
      return place
  names = ', '.join(f'{place.role} {place.index}' for place in places(program))
  raise ValueError(f'the program has no node {role} {index}; it has {names}')


class _Address(lp.AbstractAddressBuilder):
  """An address that is looked up when a node needs it, and once."""

  def __init__(self, look_up: Callable[[], str]) -> None:
    self._look_up = look_up
    self._lock = threading.Lock()
    self._found = ''

  def build(self) -> str:
    """Returns host:port."""
    with self._lock:
      self._found = self._found or self._look_up()
      return self._found


def run_node(
  program: lp.Program, place: Place, address_of: Callable[[str], str]
) -> None:
  """Runs one node in this process, on its main thread, until it returns.

  Args:
    program: the whole program.
    place: the node to run.
    address_of: maps a role to the host:port of its server; called when a node
      connects, and in the server itself for the port it has to use.
  """
  for role, nodes in program.groups.items():
    for node in nodes:
      node.launch_context.initialize(lp.LaunchType.LOCAL_MULTI_PROCESSING, None)
      for address in node.addresses:
        address.bind(_Address(functools.partial(address_of, role)))
  node = program.groups[place.role][place.index]
  for handle in node.input_handles:
    handle.connect(node, place.role)
  _register_stop()
  node.function()


def _flags() -> Any:
  """Returns Launchpad's command-line flags, all at their defaults."""
  values: Any = flags.FLAGS
  values(['node'], known_only=True)
  return values


def _register_stop() -> None:
  """Lets Launchpad's own nodes see SIGTERM; handlers already set are kept."""
  values = _flags()
  # The supervisor ends a node that does not leave, not an alarm inside of it.
  values.lp_termination_notice_secs = -1
  worker_manager.WorkerManager(register_in_thread=True)


class _Rehearsal:
  """Stands in for an experiment of XManager: keeps what images would be made from."""

  def __init__(self, folder: pathlib.Path) -> None:
    self._folder = folder
    self._pools: list[pathlib.Path] = []

  def __enter__(self) -> '_Rehearsal':
    return self

  def __exit__(self, *error: object) -> None:
    pass

  def package(self, packageables: Sequence[Any]) -> list[Any]:
    """Copies the folders of images, and returns what they would be made of."""
    specs = [packageable.executable_spec for packageable in packageables]
    for spec in specs:
      self._pools.append(self._folder / f'workerpool{len(self._pools)}')
      shutil.copytree(spec.path, self._pools[-1])
      print(f'{self._pools[-1]}: {spec.base_image}, {spec.entrypoint.commands}')
    return specs

  def add(self, group: Any) -> None:
    """Prints what the job would ask for."""
    for pool, job in zip(self._pools, group.jobs.values(), strict=True):
      wanted = job.executor.requirements
      print(f'{pool.name}: {wanted.replicas} × {dict(wanted.task_requirements)}')


def launch_on_vertex(
  program: lp.Program,
  code: str,
  requirements: str,
  machines: Mapping[str, Mapping[str, int]],
  rehearsal: str = '',
) -> None:
  """Builds images and submits a job of all nodes to Vertex AI.

  Args:
    program: whose nodes can be pickled.
    code: folder that nodes import from.
    requirements: file of what pip installs in an image.
    machines: role -> what `xm.JobRequirements` takes, as cpu and ram (bytes).
    rehearsal: a folder in which to leave what images would be made from, instead of
      submitting anything; empty: submit.

  Raises:
    ImportError: what Launchpad needs for it is not installed.
    RuntimeError: Google does not know who asks.
  """
  # With all that only this needs.
  from google.auth import exceptions
  from launchpad.nodes.python import xm_docker
  from xmanager import xm
  from xmanager import xm_local

  _flags()
  resources = {
    role: xm_docker.DockerConfig(
      code, requirements, xm.JobRequirements(**machines[role])
    )
    for role in program.groups
  }
  with contextlib.ExitStack() as stack:
    if rehearsal:
      experiment = _Rehearsal(pathlib.Path(rehearsal))
      stack.enter_context(
        mock.patch.object(xm_local, 'create_experiment', lambda **unused: experiment)
      )
    try:
      lp.launch(program, lp.LaunchType.VERTEX_AI, xm_resources=resources)
    except exceptions.GoogleAuthError as e:
      raise RuntimeError(f'nothing was submitted: {e}') from e


def stop_event() -> threading.Event:
  """Returns what is set when a node that Launchpad itself started shall leave."""
  return lp.stop_event()
