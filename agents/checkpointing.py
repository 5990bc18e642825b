"""Saves the learners and the replay together, and restores a learner.

Whoever of the learners finds that it is time announces a set. The others see it between
two of their steps and add their state; when all have, the one that announced it saves
itself and the replay, and completes the set. Nobody waits for another: a learner that
does not answer, because it is being started again, costs the set and nothing else.
"""

from collections.abc import Callable, Mapping
import contextlib
import pathlib
import shutil
import threading
import time
from typing import Any

from absl import logging
import reverb
import tensorflow as tf

from agents import logs
from agents import replay
from agents import waiting
from metamimic import checkpoints
from metamimic import drafts
from metamimic import loading
from metamimic import notices

_MOST_SAVING = 0.02  # Share of the time; a large replay takes many seconds to save.
_POLL = 0.25  # Seconds between two looks for a set that another learner announced.
_PATIENCE = 120.0  # Seconds for the others, who may be starting, to add their state.
# Seconds within which a set that a learner on another host announced is completed, if
# that host lives: the wait above, and the replay.
_LONGEST_SET = 600.0
# Of a run that is stopped: it has ten seconds, of which a step may take one.
_PATIENCE_STOPPED = 1.5
_MOST_STOPPED = 4.5

# Python's, TensorFlow's, and what Reverb makes of a full disk.
_DISK = (OSError, tf.errors.OpError, IndexError)


class Checkpointer:
  """One learner's part in saving and restoring."""

  def __init__(
    self,
    run_dir: str,
    name: str,
    last_steps: Mapping[str, int],
    state: Mapping[str, Any],
    num_steps: Callable[[], int],
    written: Callable[[Mapping[str, Any]], Mapping[str, int]],
    client: reverb.Client,
    period: float,
    stop: threading.Event,
  ):
    """Restores the learner from the newest good set, if there is one.

    Args:
      run_dir: of the run.
      name: of the learner.
      last_steps: of each learner of the run, by name.
      state: what is saved of this one, trackable by tf.train.Checkpoint.
      num_steps: returns how far it is.
      written: what the server tells of its tables -> transitions by kind of actor.
      client: of the replay server.
      period: seconds between two sets, at least.
      stop: set when the run shall stop.

    Raises:
      DamagedError: there are sets, and none is good.
    """
    self._run_dir = run_dir
    self._name = name
    self._last_steps = last_steps
    self._num_steps = num_steps
    self._written = written
    self._checkpoint = tf.train.Checkpoint(**state)
    self._client = client
    self._save_replay = waiting.Call(client.checkpoint)
    self._stop = stop
    self._next_look = 0.0
    self._draft: drafts.Draft | None = None
    self._patient_until = 0.0
    self._joined = -float('inf')
    self._turn = contextlib.ExitStack()
    found = checkpoints.recover(run_dir, learners=last_steps)
    if found:
      path = loading.state_path(found.path / name)
      self._checkpoint.read(path).assert_consumed()
      logging.info('goes on from step %d of %s', num_steps(), found.path)
    # The first set is written at once: a server that dies is restored from one.
    self._clock = logs.Clock(period, at_once=found is None)
    self._pause = 0.0
    self._stopped = 0.0

  def poll(self) -> None:
    """Does what there is to do for a set now; to be called between steps."""
    now = time.monotonic()
    if now < self._next_look:
      return
    self._next_look = now + _POLL
    if self._draft is None and not self._join() and self._clock.due(period=self._pause):
      self._announce()
    self._advance(late=now > self._patient_until)

  def finish(self) -> None:
    """Saves a last set: until it is there, or in seconds once the run is stopped."""
    before = self._number()
    reminder = waiting.Reminder()
    asked = True
    while not self._is_saved_since(before):
      stopping = self._stopping()
      if stopping > _MOST_STOPPED:
        return
      if self._draft is None and not self._join():
        if asked or self._clock.due(period=self._pause):
          asked = not self._announce()
      self._advance(
        time.monotonic() > self._patient_until or stopping > _PATIENCE_STOPPED
      )
      if stopping and not asked and self._draft is None:
        return
      reminder.remind(lambda: 'a last checkpoint set to be complete')
      time.sleep(_POLL / 5)

  def _stopping(self) -> float:
    """Returns for how many seconds the run has been stopping; 0: it is not."""
    if not self._stop.is_set():
      return 0.0
    self._stopped = self._stopped or time.monotonic()
    return max(time.monotonic() - self._stopped, 1e-9)

  def _number(self) -> int:
    found = checkpoints.last(self._run_dir)
    return found.number if found else 0

  def _is_saved_since(self, before: int) -> bool:
    found = checkpoints.last(self._run_dir)
    return (
      found is not None
      and found.number > before
      and found.learner_steps.get(self._name) == self._num_steps()
    )

  def _join(self) -> bool:
    """Adds this learner to a set that another one announced, if there is one."""
    draft = drafts.announced(self._run_dir)
    if draft is None or draft.has(self._name):
      return False
    # The next one is due a period after this one, whoever announces it.
    self._clock.due(at_once=True)
    self._joined = time.monotonic()
    previous = checkpoints.last(self._run_dir)
    self._pause = previous.seconds / _MOST_SAVING if previous else 0.0
    try:
      self._add(draft)
    except _DISK as e:
      logging.warning('not in checkpoint set %s: %s', draft.path, e)
    return True

  def _announce(self) -> bool:
    """Tries to begin a set; False: it is another learner's turn."""
    parts = [*self._last_steps, checkpoints.REPLAY]
    with contextlib.ExitStack() as stack:
      try:
        if not stack.enter_context(drafts.turn(self._run_dir)):
          return False
        if self._may_be_written():
          return False
        self._draft = drafts.begin(self._run_dir, parts)
      except OSError as e:
        self._warn(f'no checkpoint set can be begun: {e}')
        return True
      self._turn = stack.pop_all()
    self._patient_until = time.monotonic() + _PATIENCE
    return True

  def _may_be_written(self) -> bool:
    """Returns whether a set that this learner is in may yet be completed elsewhere.

    Hosts need not see each other's locks; on its own one a lock that is free tells.
    """
    return (
      drafts.announced(self._run_dir) is not None
      and not drafts.was_begun_here(self._run_dir)
      and time.monotonic() - self._joined < _LONGEST_SET
    )

  def _advance(self, late: bool) -> None:
    """Completes the set that this learner announced, once the others are in it.

    Args:
      late: they have had their time.
    """
    draft = self._draft
    if draft is None:
      return
    previous = checkpoints.last(self._run_dir)
    begun = time.monotonic()
    try:
      missing = self._missing(draft, previous, late)
      if missing and not late:
        return
      if missing:
        self._give_up(draft, f'no answer of the learner {missing[0]}')
      else:
        self._complete(draft, previous, begun)
    except replay.GONE as e:
      # The launcher has told of its death.
      self._give_up(draft, f'the replay server is gone ({e})', tell=False)
    except (checkpoints.DamagedError, *_DISK) as e:
      self._give_up(draft, str(e))
    self._draft = None
    self._turn.close()
    self._pause = (time.monotonic() - begun) / _MOST_SAVING

  def _complete(
    self,
    draft: drafts.Draft,
    previous: checkpoints.CheckpointSet | None,
    begun: float,
  ) -> None:
    self._add(draft)
    replay_seconds, environment_steps = self._add_replay(draft, previous)
    done = draft.complete(
      environment_steps, lambda: time.monotonic() - begun, replay_seconds
    )
    logging.info('saved %s in %.1f s', done.path, done.seconds)

  def _give_up(self, draft: drafts.Draft, why: str, tell: bool = True) -> None:
    draft.abandon()
    shutil.rmtree(drafts.server_folder(self._run_dir), ignore_errors=True)
    self._warn(f'checkpoint set {draft.path.stem} was given up: {why}', tell)

  def _missing(
    self,
    draft: drafts.Draft,
    previous: checkpoints.CheckpointSet | None,
    late: bool,
  ) -> list[str]:
    """Returns the other learners that are not in the set yet.

    The state of one that was done, and may have left, is taken from the set before; so
    is that of one that is late when the run is stopped.
    """
    missing = []
    for name, last in self._last_steps.items():
      if name == self._name or draft.has(name):
        continue
      before = previous.learner_steps.get(name) if previous else None
      if (
        previous
        and before is not None
        and (before >= last or (late and self._stop.is_set()))
      ):
        draft.link(name, previous)
      else:
        missing.append(name)
    return missing

  def _add(self, draft: drafts.Draft) -> None:
    def write(folder: pathlib.Path) -> None:
      self._checkpoint.write(loading.state_path(folder))

    draft.add_learner(self._name, self._num_steps(), write)

  def _add_replay(
    self, draft: drafts.Draft, previous: checkpoints.CheckpointSet | None
  ) -> tuple[float, Mapping[str, int]]:
    """Saves the replay, or takes that of the last set where there is no time.

    Returns:
      The seconds that saving it took, then or now, and what had been written to it.
    """
    left = _MOST_STOPPED - self._stopping()
    if previous and self._stop.is_set() and previous.replay_seconds > left:
      return self._link_replay(draft, previous, 'takes too long to save')
    begun = time.monotonic()
    reminder = waiting.Reminder()
    while True:
      try:
        saved = pathlib.Path(self._save_replay(timeout=0.2))
        break
      except TimeoutError:
        if previous and self._stopping() > _MOST_STOPPED:
          return self._link_replay(draft, previous, 'takes too long to save')
        reminder.remind(lambda: 'the replay server to save its tables')
      except replay.GONE as e:
        if previous and self._stop.is_set():
          return self._link_replay(draft, previous, f'cannot be saved ({e})')
        raise

    def move(folder: pathlib.Path) -> None:
      for file in saved.iterdir():
        file.rename(folder / file.name)

    draft.add(checkpoints.REPLAY, move)
    seconds = time.monotonic() - begun
    saved.rmdir()
    # The server makes it anew when it saves again.
    with contextlib.suppress(OSError):
      saved.parent.rmdir()
    info = replay.info(self._client)
    if info is None:
      raise RuntimeError('no answer')
    return seconds, self._written(info)

  def _link_replay(
    self, draft: drafts.Draft, previous: checkpoints.CheckpointSet, why: str
  ) -> tuple[float, Mapping[str, int]]:
    draft.link(checkpoints.REPLAY, previous)
    text = (
      f'replay {why}: that of {previous.path} goes with the learners, which are new'
    )
    logging.warning(text)
    notices.tell(self._run_dir, text)
    return previous.replay_seconds, previous.environment_steps

  def _warn(self, text: str, tell: bool = True) -> None:
    with contextlib.suppress(OSError):  # A shared file system has its moments.
      text += f'; {shutil.disk_usage(self._run_dir).free / 1e6:,.0f} MB are free'
    text += ', and earlier sets are as they were'
    logging.warning(text)
    if tell:
      notices.tell(self._run_dir, text)
