"""Tests of agents.builder; above all, that MetaMimic never reads actions."""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import pathlib
import shutil
import threading
from typing import Any, NoReturn

import h5py
import numpy as np
import pytest
import reverb
import tensorflow as tf

from agents import builder
from agents import environments
from agents import parameters
from agents import replay
from agents import sampling
from agents.bc import learning as bc_learning
from agents.d4pg import demonstrators
from envs import disturbances
from envs import imitation as imitation_lib
from envs import rewards
from envs import solving
from envs import tasks
from metamimic import config as config_lib
from metamimic import preparation
from metamimic import presets
from metamimic import report
from metamimic import run_description
from metamimic.demonstrations import recording
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

_TINY = presets.PRESETS['tiny'][1]
CONFIG = dataclasses.replace(
  _TINY,
  learner_steps=6,
  network=config_lib.NetworkConfig(policy_width=8, critic_width=8),
  d4pg=dataclasses.replace(_TINY.d4pg, batch_size=16, steps_per_call=2),
  actor=dataclasses.replace(_TINY.actor, environments=1),
  task=dataclasses.replace(
    _TINY.task,
    learner_steps=6,
    start_after=20,
    start_within=1.0,
    d4pg=dataclasses.replace(
      _TINY.task.d4pg, batch_size=16, steps_per_call=2, reset_at=0.0
    ),
    actor=dataclasses.replace(_TINY.task.actor, environments=1),
  ),
  evaluation=dataclasses.replace(_TINY.evaluation, videos=0),
)


# Of a learner of the task, for those who act and for those who evaluate.
_PUBLISHED = ('parameters_task', 'parameters_task_averaged')


@pytest.fixture(name='files', scope='module')
def files_fixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
  """Returns files that differ only in the actions in them."""
  folder = tmp_path_factory.mktemp('demonstrations')
  demonstrations, _ = recording.record('reach_duplo', train=2, valid=2, seed=0)
  paths = {name: str(folder / f'{name}.hdf5') for name in ('whole', 'none', 'other')}
  storage.save(paths['whole'], demonstrations)
  for name in ('none', 'other'):
    shutil.copy(paths['whole'], paths[name])
    with h5py.File(paths[name], 'r+') as file:
      for demonstration in file['data'].values():
        actions = demonstration['actions'][()]
        del demonstration['actions']
        if name == 'other':
          demonstration['actions'] = -actions
  return paths


@pytest.fixture(name='unreadable')
def unreadable_fixture(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
  """Makes reading actions an error; returns the `with_actions` of every load."""
  asked: list[bool] = []
  load = storage.load

  def watched(
    path: str, with_actions: bool = False, vetted: bool = False
  ) -> types.DemonstrationSet:
    asked.append(with_actions)
    return load(path, with_actions, vetted)

  def refuse(demonstration: types.Demonstration) -> NoReturn:
    raise AssertionError(f'{demonstration.name}: somebody read the actions')

  monkeypatch.setattr(storage, 'load', watched)
  # Reads all of the file, in a child that keeps nothing of it.
  monkeypatch.setattr(storage, 'vet', lambda path: None)
  monkeypatch.setattr(types.Demonstration, 'actions', property(refuse))
  return asked


def _make(
  path: str,
  run_dir: pathlib.Path,
  algorithm: Any = 'metamimic',
  learn: bool = False,
  learner: Any = 'd4pg',
) -> builder.Builder:
  config = dataclasses.replace(
    CONFIG,
    demonstrations=path,
    algorithm=algorithm,
    task=dataclasses.replace(CONFIG.task, learn=learn, learner=learner),
  )
  run_dir.mkdir()
  preparation.prepare(config, str(run_dir))
  return builder.Builder(config, str(run_dir), threading.Event())


def _experience(codec: replay.Codec) -> Iterator[tf.Tensor]:
  """Yields made-up batches, the same ones every time."""
  rng = np.random.default_rng(0)
  d4pg = CONFIG.d4pg
  while True:
    shape = (d4pg.batch_size * d4pg.steps_per_call, codec.size)
    yield tf.constant(rng.uniform(0, 1, shape), tf.float32)


def _act(
  made: builder.Builder, client: reverb.Client, index: int, steps: int
) -> tuple[int, dict[str, int]]:
  """Lets an actor act; returns its steps, and what each table of experience holds."""
  actor = made.actor(client, index)
  done = iter([False] * (steps + 1) + [True] * 9)
  actor._should_stop = lambda: next(done)
  actor.run()
  info = client.server_info()
  sizes = {name: table.current_size for name, table in info.items()}
  return actor._steps, {n: k for n, k in sizes.items() if 'parameters' not in n}


def test_actors_learners_and_tables_do_without_actions(
  files: dict[str, str], tmp_path: pathlib.Path, unreadable: list[bool]
) -> None:
  made = _make(files['whole'], tmp_path / 'run', learn=True)
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    for index in range(2):
      made.learner(client, index)._publish_surely()
    imitated = _act(made, client, 0, steps=28)
    solved = _act(made, client, 1, steps=17)
    tables = {name: table.max_size for name, table in client.server_info().items()}
  finally:
    server.stop()
  assert imitated == (28, {'imitation': 28, 'imitation_for_task': 28, 'task': 0})
  assert solved == (17, {'imitation': 28, 'imitation_for_task': 28, 'task': 17})
  assert tables == {
    'imitation': CONFIG.replay.max_size,
    'imitation_for_task': CONFIG.replay.max_size,
    'task': CONFIG.task.replay.max_size,
    'parameters_imitation': 1,
    'parameters_task': 1,
    'parameters_task_averaged': 1,
  }
  # Checking the run, two learners, two actors: none of them asked for actions.
  assert len(unreadable) >= 5
  assert not any(unreadable)


def test_actors_of_one_seed_begin_alike_and_none_acts_the_same_again(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  server = None
  starts = []
  try:
    for name in ('first', 'second'):
      made = _make(files['none'], tmp_path / name)
      server = server or reverb.Server(made.replay_tables())
      client = server.localhost_client()
      actors = [made.actor(client, 0)]
      actors[0]._logger.write({'environment_steps': 9, 'episodes': 2})
      actors.append(made.actor(client, 0))
      starts += [
        np.concatenate([e.reset().observation['goal'] for e in actor.environments * 9])
        for actor in actors
      ]
  finally:
    if server:
      server.stop()
  first, resumed, second, _ = starts
  np.testing.assert_array_equal(first, second)
  assert (first != resumed).any()


@pytest.mark.parametrize('disturbed', ['imitation', 'task'])
def test_each_kind_of_actor_meets_its_own_disturbances(
  disturbed: str, files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  made = _make(files['none'], tmp_path / 'run', learn=True)
  tossed = disturbances.Disturbance(action_noise=1.0)
  part = dataclasses.replace(getattr(made._config, disturbed), disturbance=tossed)
  made._config = dataclasses.replace(
    made._config, disturbed_share=1.0, **{disturbed: part}
  )
  demonstrations = made._demonstrations()
  moved = {}
  for kind, make in (
    ('imitation', environments.imitating),
    ('task', environments.solving),
  ):
    (environment,) = make(made._config, made._run_dir, demonstrations, [0])
    velocities = []
    for _ in range(20):
      environment.reset()
      observation = environment.step(np.zeros(9, np.float32)).observation
      velocities.append(made._layout.get(observation, 'finger_velocity'))
    moved[kind] = np.std(velocities)
  usual = moved.pop('task' if disturbed == 'imitation' else 'imitation')
  assert moved[disturbed] > 5 * usual


def test_imitation_starts_and_ends_as_its_settings_say(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  made = _make(files['none'], tmp_path / 'run')

  def environment(**values: Any) -> Any:
    config = dataclasses.replace(
      made._config, imitation=dataclasses.replace(CONFIG.imitation, **values)
    )
    (found,) = environments.imitating(
      config, made._run_dir, made._demonstrations(), [0]
    )
    return found

  def starts(start_within: float) -> list[int]:
    following = environment(start_within=start_within)
    return [int(following.reset().observation['goal'][1]) for _ in range(10)]

  assert set(starts(0.0)) == {0}
  assert len(set(starts(1.0))) > 3
  action = np.ones(9, np.float32)  # What nobody demonstrated.
  for early_end, is_last in ((0.0, False), (1.0, True)):
    following = environment(early_end=early_end, start_within=0.0)
    following.reset()
    timestep = following.step(action)
    assert timestep.last() == is_last
    assert timestep.discount['imitation'] == 1 - is_last
    assert timestep.discount['task'] == 1


def test_task_actors_begin_and_end_as_their_settings_say(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  made = _make(files['none'], tmp_path / 'run', learn=True)

  def environment(algorithm: Any = 'metamimic', **values: Any) -> Any:
    task = dataclasses.replace(CONFIG.task, **values)
    config = dataclasses.replace(made._config, algorithm=algorithm, task=task)
    (found,) = environments.solving(config, made._run_dir, made._demonstrations(), [0])
    return found

  def steps(**values: Any) -> int:
    found, count = environment(start_within=1.0, **values), 0
    found.reset()
    while not found.step(np.zeros(9, np.float32)).last():
      count += 1
    return count

  # From the same state.
  assert steps(patience=0.5) < steps(patience=2.0) < steps(patience=0.0)
  assert steps(patience=0.0) == tasks.get('reach_duplo').max_steps - 1
  dense = environment('d4pg', reward='dense')
  dense.reset()
  rewards_ = [
    float(dense.step(np.zeros(9, np.float32)).reward['task']) for _ in range(5)
  ]
  assert all(0 < reward < 1 for reward in rewards_)


def test_task_actor_waits_for_imitation_to_have_begun(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  made = _make(files['none'], tmp_path / 'run', learn=True)
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    for index in range(2):
      made.learner(client, index)._publish_surely()
    _act(made, client, 0, steps=CONFIG.task.start_after - 1)
    actor = made.actor(client, 1)
    thread = threading.Thread(target=actor.run)
    thread.start()
    thread.join(timeout=1.5)
    waiting = thread.is_alive(), client.server_info()['task'].current_size
    made._stop.set()
    thread.join()
  finally:
    server.stop()
  assert waiting == (True, 0)
  assert actor._steps == 0


@pytest.mark.usefixtures('eagerly')
def test_training_is_the_same_whatever_the_actions_in_the_file(
  files: dict[str, str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  found = []
  for name, path in files.items():
    made = _make(path, tmp_path / name, learn=True)
    batches = _experience(made._codec)
    monkeypatch.setattr(sampling, 'Sampler', lambda *unused, b=batches, **also: b)
    server = reverb.Server(made.replay_tables())
    weights = []
    try:
      for index in range(2):
        learner = made.learner(server.localhost_client(), index)._learner
        before = learner.get_variables(['policy'])[0]
        for _ in range(3):
          learner.step()
        assert learner.num_steps == 6
        after, critic = learner.get_variables(['policy', 'critic'])
        assert any((a != b).any() for a, b in zip(before, after, strict=True))
        weights += [*before, *after, *critic]
    finally:
      server.stop()
    description = run_description.read(str(tmp_path / name))
    del description['started']
    found.append((description, weights))
  (description, weights), *others = found
  for other_description, other_weights in others:
    assert other_description == description
    for a, b in zip(weights, other_weights, strict=True):
      np.testing.assert_array_equal(a, b)


def _holds(arrays: Sequence[np.ndarray], sought: np.ndarray) -> bool:
  return any(np.array_equal(array, sought) for array in arrays)


@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize('learner', ['d4pg', 'self_imitation'])
def test_who_evaluates_gets_the_average_and_who_acts_the_newest(
  learner: str,
  files: dict[str, str],
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  made = _make(files['none'], tmp_path / 'run', learn=True, learner=learner)
  batches = _experience(made._codec)
  monkeypatch.setattr(sampling, 'Sampler', lambda *unused, **also: batches)
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    process = made.learner(client, 1)
    learns: Any = process._learner
    kinds = {'d4pg': 'D4PGLearner', 'self_imitation': 'SelfImitationLearner'}
    assert type(learns).__name__ == kinds[learner]
    newest, averaged = learns.state['policy'], learns.state['averaged_policy']
    for _ in range(3):
      learns.step()
    process._publish_surely()
    for reader, used, unused in (
      (made.actor(client, 1)._reader, newest, averaged),
      (made.evaluator(client)._learned[1].reader, averaged, newest),
    ):
      assert reader.wait(lambda: False)
      assert reader.progress.learner_steps == learns.num_steps
      read = [v.numpy() for v in reader._variables]
      assert all(_holds(read, v.numpy()) for v in used.variables)
      assert not all(_holds(read, v.numpy()) for v in unused.variables)
      # Who acts has no time to wait.
      assert (reader._patience < 0.01) == (used is newest)
  finally:
    server.stop()


def _starts_shown(made: builder.Builder, client: reverb.Client, path: str) -> int:
  """Returns how many of an actor's first 10 starts are demonstrated states."""
  demonstrations = storage.load(path)
  states = {
    state.tobytes()
    for i in demonstrations.train
    for state in demonstrations.demonstrations[i].states
  }
  (environment,) = made.actor(client, 0).environments
  assert isinstance(environment, solving.TaskEnvironment)
  shown = 0
  for _ in range(10):
    environment.reset()
    shown += environment.environment.get_state().tobytes() in states
  return shown


def test_d4pg_is_shown_nothing(
  files: dict[str, str], tmp_path: pathlib.Path, unreadable: list[bool]
) -> None:
  made = _make(files['whole'], tmp_path / 'run', 'd4pg')
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    assert set(client.server_info()) == {'task', *_PUBLISHED}
    made.learner(client, 0)._publish_surely()
    assert _act(made, client, 0, steps=9) == (9, {'task': 9})
    assert _starts_shown(made, client, files['whole']) == 0
  finally:
    server.stop()
  assert not any(unreadable)


@pytest.mark.usefixtures('eagerly')
def test_demonstrations_come_back_to_a_server_that_has_lost_them(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  made = _make(files['whole'], tmp_path / 'run', 'd4pgfd')
  written = demonstrators.num_transitions(storage.load(files['whole']))
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    process = made.learner(client, 0)
    found = []

    def starve(most: int) -> NoReturn:
      found.append(client.server_info()['demonstrations'].current_size)
      client.reset('demonstrations')
      if len(found) == 3:
        made._stop.set()
      raise sampling.Starved('demonstrations')

    process._learner.step = starve
    process.run()
  finally:
    server.stop()
  assert found == [written] * 3


@pytest.mark.usefixtures('eagerly')
def test_d4pgfd_begins_with_the_demonstrations_in_replay(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  made = _make(files['whole'], tmp_path / 'run', 'd4pgfd')
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    assert set(client.server_info()) == {'demonstrations', 'task', *_PUBLISHED}
    process = made.learner(client, 0)
    process._fill()
    process._publish_surely()
    written = demonstrators.num_transitions(storage.load(files['whole']))
    found = _act(made, client, 0, steps=9)
    assert found == (9, {'demonstrations': written, 'task': 9})
    assert _starts_shown(made, client, files['whole']) == 10
  finally:
    server.stop()


def test_cloning_without_a_goal_has_a_learner_and_nobody_else(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  made = _make(files['whole'], tmp_path / 'run', 'bc_no_goal')
  assert made._config.actors == ()
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    assert set(client.server_info()) == {'parameters_cloning'}
    learner = made.learner(client, 0)._learner
    evaluator = made.evaluator(client)
  finally:
    server.stop()
  assert isinstance(learner, bc_learning.BCLearner)
  (frames,) = [next(learner._dataset)['observation']]
  goals = [frames['goal'], tf.zeros_like(frames['goal'])]
  seen = [learner._embed({**frames, 'goal': goal}) for goal in goals]
  np.testing.assert_array_equal(*seen)
  (learned,) = evaluator._learned
  assert (learned.arm, learned.misguided) == ('bc_no_goal', {})


@pytest.mark.usefixtures('eagerly')
def test_who_learns_has_the_runs_demonstrations_alone(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  whole = storage.load(files['whole'])
  kept, left_out = whole.split('train')
  config = dataclasses.replace(
    CONFIG,
    demonstrations=files['whole'],
    algorithm='d4pgfd',
    train_demonstrations=1,
  )
  preparation.prepare(config, str(tmp_path))
  made = builder.Builder(config, str(tmp_path), threading.Event())
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    process = made.learner(client, 0)
    process._fill()
    process._publish_surely()
    written = client.server_info()['demonstrations']
    (environment,) = made.actor(client, 0).environments
    evaluator = made.evaluator(client)
  finally:
    server.stop()
  learned = dataclasses.replace(whole, demonstrations=(kept,), train=(0,), valid=())
  assert written.current_size == written.max_size
  assert written.current_size == demonstrators.num_transitions(learned)
  states = {state.tobytes() for state in kept.states}
  assert isinstance(environment, solving.TaskEnvironment)
  for _ in range(10):
    environment.reset()
    assert environment.environment.get_state().tobytes() in states
  shown = evaluator._demonstrations
  assert [d.name for d in shown.split('train')] == [kept.name]
  assert left_out.name not in {d.name for d in shown.demonstrations}
  assert shown.split('valid')[0].name == whole.split('valid')[0].name
  assert evaluator._splits == {'train': shown.train, 'valid': shown.valid}


def test_actors_are_given_the_scaled_reward_and_the_evaluator_the_plain_one(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  imitation = dataclasses.replace(CONFIG.imitation, temperature_factor=2.0)
  config = dataclasses.replace(
    CONFIG, demonstrations=files['none'], imitation=imitation
  )
  preparation.prepare(config, str(tmp_path))
  made = builder.Builder(config, str(tmp_path), threading.Event())
  plain = run_description.read(str(tmp_path))['temperatures']
  (acting,) = environments.imitating(config, str(tmp_path), made._demonstrations(), [0])
  assert isinstance(acting, imitation_lib.ImitationEnvironment)
  assert rewards.temperatures(acting._reward) == {
    name: tau if name == 'duplo' else 2 * tau for name, tau in plain.items()
  }
  assert rewards.temperatures(run_description.reward(str(tmp_path))) == plain


def test_evaluator_leaves_out_open_loop_replay_where_there_are_no_actions(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  server = reverb.Server([parameters.table('imitation')])
  arms = {}
  for name in ('whole', 'none'):
    made = _make(files[name], tmp_path / name)
    arms[name] = set(made.evaluator(server.localhost_client())._controls)
  server.stop()
  assert arms == {'whole': {'tracker', 'zero', 'replay'}, 'none': {'tracker', 'zero'}}


def test_summary_says_what_was_learnt_and_comes_after_the_report(
  files: dict[str, str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  run_dir = tmp_path / 'run'
  made = _make(files['none'], run_dir, learn=True)
  config_lib.save(made._config, str(run_dir / 'config.json'))
  summary, write = run_dir / 'summary.json', report.write

  def fail(*unused: Any) -> NoReturn:
    raise ValueError('it cannot be drawn')

  def watched(*args: Any) -> str:
    assert not summary.exists()
    return write(*args)

  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    # More than the 6 that are asked for, as of a run that was resumed with fewer.
    for index, steps in enumerate((9, 8)):
      process: Any = made.learner(client, index)
      process._learner._num_steps.assign(steps)
      process._publish()
    evaluator = made.evaluator(client)
    for policy in evaluator._learned:
      policy.reader.update()
    monkeypatch.setattr(report, 'write', fail)
    with pytest.raises(ValueError, match='it cannot be drawn'):
      evaluator._finish()
    assert not summary.exists()
    monkeypatch.setattr(report, 'write', watched)
    evaluator._finish()
  finally:
    server.stop()
  assert json.loads(summary.read_text())['learner_steps'] == {'imitation': 9, 'task': 8}
  page = (run_dir / 'report.html').read_text()
  assert 'not finished' not in page
  assert '<dd>17</dd>' in page


def test_evaluator_has_an_arm_for_each_policy(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  made = _make(files['none'], tmp_path / 'run', learn=True)
  server = reverb.Server(made.replay_tables())
  learned = made.evaluator(server.localhost_client())._learned
  server.stop()
  assert {policy.arm: set(policy.misguided) for policy in learned} == {
    'metamimic': {'wrong_demonstration', 'no_demonstration'},
    'task_policy': set(),
  }
  # One follows a demonstration to its end, the other acts from its start.
  followed, solved = (policy.run([1], lambda: False)[0] for policy in learned)
  terms = run_description.read(str(tmp_path / 'run'))['terms']
  length = storage.load(files['none']).demonstrations[1].num_steps
  assert followed.demonstration == solved.demonstration == 1
  assert followed.steps == length and set(followed.terms) == set(terms)
  assert 0 < followed.total < 1
  assert np.isnan(solved.total) and solved.terms == {}
