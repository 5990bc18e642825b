"""Recording of scripted demonstrations: bounded, counted, and the same every time.

Each demonstration is made from its own random numbers, which follow from (seed, split,
number within the split, attempt) alone. So a file does not depend on how many
processes recorded it. On another kind of processor the physics may differ in its last
digits.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import queue
import signal
import threading
import time

import numpy as np

from envs import stepping
from envs import tasks
from metamimic.demonstrations import experts
from metamimic.demonstrations import skills
from metamimic.demonstrations import types

SPLITS = ('train', 'valid')

_ATTEMPTS_PER_DEMONSTRATION = 2  # on average; more means that the expert is broken


class TooManyRejections(RuntimeError):
  """The expert failed so often that recording stopped; the message has the tally."""


@dataclasses.dataclass
class SkillTally:
  """What recording one skill has come to so far."""

  steps: list[int] = dataclasses.field(default_factory=list)
  """Length of each demonstration kept, control steps."""
  rejections: collections.Counter[str] = dataclasses.field(
    default_factory=collections.Counter
  )
  """Reason -> attempts rejected for it."""


@dataclasses.dataclass
class Tally:
  """What recording has come to so far."""

  wanted: int
  """Demonstrations asked for."""
  skills: Mapping[str, SkillTally]
  """By the skill's name."""
  seconds: float = 0.0
  """Wall time."""

  @property
  def steps(self) -> list[int]:
    """Length of each demonstration kept, of any skill, control steps."""
    return [steps for skill in self.skills.values() for steps in skill.steps]

  @property
  def kept(self) -> int:
    """Demonstrations kept."""
    return len(self.steps)

  @property
  def rejected(self) -> int:
    """Attempts rejected."""
    return sum(skill.rejections.total() for skill in self.skills.values())

  @property
  def attempts(self) -> int:
    """Attempts made."""
    return self.kept + self.rejected

  @property
  def max_attempts(self) -> int:
    """Attempts after which recording gives up."""
    return _ATTEMPTS_PER_DEMONSTRATION * self.wanted

  def __str__(self) -> str:
    """Returns a few lines for people; of each skill, where there are several."""
    line = f'kept {self.kept} of {self.attempts} attempts in {self.seconds:.1f} s'
    lines = [line + _spread(self.steps)]
    for name, skill in self.skills.items():
      if len(self.skills) > 1:
        kept, rejected = len(skill.steps), skill.rejections.total()
        line = f'  {name}: kept {kept}, rejected {rejected}'
        lines.append(line + _spread(skill.steps))
      lines += [
        f'  rejected {count} x {reason}'
        for reason, count in skill.rejections.most_common()
      ]
    return '\n'.join(lines)


def _spread(steps: Sequence[int]) -> str:
  if not steps:
    return ''
  return (
    f'; steps mean {np.mean(steps):.0f}, p95 {np.percentile(steps, 95):.0f}, '
    f'max {max(steps)}'
  )


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of one demonstration asked for."""

  skill: str
  """The skill to be shown."""
  demonstration: types.Demonstration | None
  """None: no attempt succeeded."""
  rejections: tuple[str, ...]
  """Why each of the attempts before it was rejected."""


def attempt(
  env: stepping.ManipulationEnvironment,
  name: str,
  split: str,
  skill: str,
  seeds: np.random.SeedSequence,
) -> types.Demonstration:
  """Lets the skill's expert try once, from a start of its own.

  Args:
    env: the task.
    name: what to call the demonstration.
    split: 'train' or 'valid', which decides on the style of the expert.
    skill: one of the task's.
    seeds: where all randomness comes from.

  Raises:
    skills.SkillFailed: the attempt is to be rejected; the message is the reason.
  """
  start_seeds, expert_seeds, prepare_seeds = seeds.spawn(3)
  rng = np.random.default_rng(expert_seeds)
  style = experts.RANGES[split].sample(rng)
  expert = experts.EXPERTS[env.task.name][skill]
  env.pursue(skill)
  env.reset(seed=int(start_seeds.generate_state(1)[0]))
  expert.prepare(env, np.random.default_rng(prepare_seeds))
  env.begin()
  hand = skills.Hand(env.scene, style, rng)
  observations, states = [env.scene.observe()], [env.get_state()]
  actions: list[np.ndarray] = []
  rewards: list[float] = []
  for action in expert.act(hand):
    if len(actions) == env.task.max_steps:
      raise skills.SkillFailed('longer than an episode')
    actions.append(action.astype(np.float32))
    try:
      observations.append(env.advance(actions[-1]))
    except RuntimeError as e:
      raise skills.SkillFailed('the simulation diverged') from e
    states.append(env.get_state())
    rewards.append(float(env.succeeded))
  if not env.succeeded:
    raise skills.SkillFailed('no success at the end')
  return types.Demonstration(
    name=name,
    task=env.task.name,
    skill=skill,
    observations={
      group: np.stack([o[group] for o in observations]) for group in observations[0]
    },
    states=np.stack(states),
    actions=np.stack(actions),
    expert=dataclasses.asdict(style),
    rewards=np.array(rewards, np.float32),
  )


def record_one(
  env: stepping.ManipulationEnvironment,
  name: str,
  split: str,
  skill: str,
  seed: int,
  number: int,
  max_attempts: int,
) -> Outcome:
  """Tries until one attempt succeeds.

  Args:
    env: the task.
    name: what to call the demonstration.
    split: 'train' or 'valid'.
    skill: one of the task's.
    seed: of the file.
    number: of the demonstration within its split.
    max_attempts: after which to give up.
  """
  rejections: list[str] = []
  while len(rejections) < max_attempts:
    seeds = np.random.SeedSequence([seed, SPLITS.index(split), number, len(rejections)])
    try:
      demonstration = attempt(env, name, split, skill, seeds)
      return Outcome(skill, demonstration, tuple(rejections))
    except skills.SkillFailed as e:
      rejections.append(str(e))
  return Outcome(skill, None, tuple(rejections))


def record(
  task: str,
  train: int,
  valid: int,
  seed: int,
  processes: int = 1,
  progress: Callable[[Tally], None] = lambda tally: None,
  wanted_skills: Sequence[str] = (),
) -> tuple[types.DemonstrationSet, Tally]:
  """Records demonstrations, training ones first; in each split, skills take turns.

  Args:
    task: a name in `tasks.TASKS`.
    train: how many training demonstrations.
    valid: how many held-out demonstrations.
    seed: of starts and experts.
    processes: how many record at the same time.
    progress: called after each demonstration.
    wanted_skills: which of the task's skills; empty: all that it has.

  Returns:
    The demonstrations, and the tally.

  Raises:
    ValueError: a number is out of range, there is no such task or no expert for it,
      or it has no such skill.
    TooManyRejections: more than twice as many attempts as demonstrations.
  """
  if task not in experts.EXPERTS:
    raise ValueError(
      f'no expert for task {task!r}; there are those of {sorted(experts.EXPERTS)}'
    )
  known = experts.EXPERTS[task]
  for skill, count in collections.Counter(wanted_skills).items():
    if skill not in known:
      raise ValueError(f'{task} has no skill {skill!r}; there are {list(known)}')
    if count > 1:
      raise ValueError(f'skills has {skill!r} {count} times; expected once')
  turns = tuple(wanted_skills) or tuple(known)
  for name, value, low in (
    ('train', train, 0),
    ('valid', valid, 0),
    ('seed', seed, 0),
    ('train + valid', train + valid, 1),
    ('processes', processes, 1),
  ):
    if value < low:
      raise ValueError(f'{name} is {value}; expected {low} or more')
  tally = Tally(train + valid, {skill: SkillTally() for skill in turns})
  splits = [('train', i) for i in range(train)] + [('valid', i) for i in range(valid)]
  jobs = [
    _Job(
      f'demo_{i}', split, turns[number % len(turns)], seed, number, tally.max_attempts
    )
    for i, (split, number) in enumerate(splits)
  ]
  start = time.monotonic()
  demonstrations: dict[str, types.Demonstration] = {}
  with _outcomes(task, jobs, min(processes, len(jobs))) as outcomes:
    for outcome in outcomes:
      skill_tally = tally.skills[outcome.skill]
      skill_tally.rejections.update(outcome.rejections)
      tally.seconds = time.monotonic() - start
      if outcome.demonstration is not None:
        demonstrations[outcome.demonstration.name] = outcome.demonstration
        skill_tally.steps.append(outcome.demonstration.num_steps)
      if outcome.demonstration is None or tally.attempts > tally.max_attempts:
        raise TooManyRejections(
          f'{task}: gave up after {tally.attempts} attempts at {tally.wanted} '
          f'demonstrations\n{tally}'
        )
      progress(tally)
  return types.DemonstrationSet(
    task=task,
    demonstrations=tuple(demonstrations[job.name] for job in jobs),
    train=tuple(range(train)),
    valid=tuple(range(train, train + valid)),
  ), tally


@dataclasses.dataclass(frozen=True)
class _Job:
  """Arguments of `record_one`, but for the environment."""

  name: str
  split: str
  skill: str
  seed: int
  number: int
  max_attempts: int

  def run(self, env: stepping.ManipulationEnvironment) -> Outcome:
    return record_one(
      env,
      self.name,
      self.split,
      self.skill,
      self.seed,
      self.number,
      self.max_attempts,
    )


@contextlib.contextmanager
def _outcomes(
  task: str, jobs: list[_Job], processes: int
) -> Iterator[Iterable[Outcome]]:
  """Gives outcomes as they come; on leaving, no process is left."""
  if processes == 1:
    env = tasks.load(task, seed=0)
    try:
      yield (job.run(env) for job in jobs)
    finally:
      env.close()
    return
  others = multiprocessing.active_children()
  executor = concurrent.futures.ProcessPoolExecutor(
    processes, multiprocessing.get_context('spawn'), _start_worker, (task,)
  )
  # A signal may go to the whole process group. It is this process's to deal with, so
  # the workers are started with both blocked, from their first instruction on. (Not
  # sooner: what the line above starts unblocks one.) Nor may a handler's exception
  # break into `submit`, which would leave locks taken, and workers half started.
  signals = {signal.SIGINT, signal.SIGTERM}
  done: queue.SimpleQueue[concurrent.futures.Future[Outcome]] = queue.SimpleQueue()
  try:
    with _held_back(signals):
      signal.pthread_sigmask(signal.SIG_BLOCK, signals)
      try:
        for job in jobs:
          executor.submit(_run_in_worker, job).add_done_callback(done.put)
      finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    yield (done.get().result() for _ in jobs)
  except concurrent.futures.process.BrokenProcessPool:
    # One was killed. The executor ends the others by SIGTERM, which is blocked there,
    # and would wait for them for ever.
    for worker in multiprocessing.active_children():
      if worker not in others:
        worker.kill()
    raise
  finally:
    executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _held_back(signals: Iterable[signal.Signals]) -> Iterator[None]:
  """Lets the handlers of signals that come meanwhile run on leaving.

  To block them is not enough: any other thread, as NumPy's, may be given a signal, and
  Python then runs its handler in this one.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  came: list[int] = []
  handlers = {
    number: signal.signal(number, lambda number, frame: came.append(number))
    for number in signals
  }
  try:
    yield
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
    for held in dict.fromkeys(came):
      signal.raise_signal(held)


_env: stepping.ManipulationEnvironment  # of a worker


def _start_worker(task: str) -> None:
  # A worker waits for jobs for ever; nobody sends any once its parent was killed.
  threading.Thread(target=_end_with_parent, daemon=True).start()
  global _env
  _env = tasks.load(task, seed=0)


def _end_with_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    os._exit(1)


def _run_in_worker(job: _Job) -> Outcome:
  return job.run(_env)
