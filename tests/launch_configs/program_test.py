import os
import signal
from typing import Any, NoReturn

import launchpad as lp
import pytest
import reverb

from launch_configs import loopback
from launch_configs import program
from launch_configs import run_directory
from metamimic import config


def _program(num_actors: int, **settings_: Any) -> Any:
  """Returns a program; putting it together needs nothing of what its nodes are."""
  actor = config.ActorConfig(num_actors=num_actors)
  settings = config.Config(actor=actor, **settings_)

  return program.make_program(settings, _never)


def _never() -> NoReturn:
  raise AssertionError('a node was built')


def test_topology() -> None:
  topology = _program(2)
  assert program.places(topology) == [
    program.Place('replay', 0, serves=True),
    program.Place('learner', 0, serves=False),
    program.Place('actor', 0, serves=False),
    program.Place('actor', 1, serves=False),
    program.Place('evaluator', 0, serves=False),
  ]
  assert len(topology.groups) <= program.MAX_GROUPS


def test_program_without_actors() -> None:
  roles = [place.role for place in program.places(_program(2, algorithm='bc'))]
  assert roles == ['replay', 'learner', 'evaluator']


def test_program_with_two_learners_and_both_kinds_of_actors() -> None:
  topology = _program(2, task=config.TaskConfig(learn=True))
  found = [(place.role, place.index) for place in program.places(topology)]
  assert found == [
    ('replay', 0),
    ('learner', 0),
    ('learner', 1),
    ('actor', 0),
    ('actor', 1),
    ('actor', 2),
    ('evaluator', 0),
  ]
  assert len(topology.groups) <= program.MAX_GROUPS


def test_there_may_be_more_actors_than_the_settings_say() -> None:
  topology = program.make_program(config.Config(), _never, num_actors=3)
  assert program.find(topology, 'actor', 2) == program.Place('actor', 2, False)


def test_unknown_node_is_refused_with_those_there_are() -> None:
  topology = _program(1)
  assert program.find(topology, 'actor', 0) == program.Place('actor', 0, False)
  expected = 'no node actor 1; it has replay 0, learner 0, actor 0, evaluator 0'
  with pytest.raises(ValueError, match=expected):
    program.find(topology, 'actor', 1)


def test_no_courier_node_is_used() -> None:
  # A Courier port runs code that is sent to it.
  for node in _program(1).get_all_nodes():
    assert not isinstance(node, lp.CourierNode)


def test_whole_program_with_a_real_replay_server(launch: Any) -> None:
  run = launch({}, FAKE_REVERB='1', OMP_NUM_THREADS='1', TF_CPP_MIN_LOG_LEVEL='3')
  status, output = run.finish()
  assert status == 0, output
  statuses = {e['node']: e['status'] for e in run.events('exit')}
  assert statuses == {'learner-0': 0, 'actor-0': 0, 'evaluator-0': 0, 'replay-0': 143}
  assert run.nothing_left()


def test_killed_replay_server_is_started_again_where_it_was(
  launch: Any, wait_until: Any
) -> None:
  run = launch(
    {'learner-0': 'wait', 'actor-0': 'wait', 'evaluator-0': 'wait'},
    FAKE_REVERB='1',
    OMP_NUM_THREADS='1',
    TF_CPP_MIN_LOG_LEVEL='3',
  )
  run.wait_until_works('learner-0', 'actor-0')
  address = run_directory.published_address(run.dir, 'replay')
  assert address
  os.kill(run.pids()['replay-0'], signal.SIGKILL)
  wait_until(lambda: len(run.events('restart')) == 1)
  wait_until(lambda: loopback.answers(address))
  assert run_directory.published_address(run.dir, 'replay') == address
  run.signal(signal.SIGTERM)
  status, output = run.finish()
  assert status == 143
  assert 'replay-0 was ended by SIGKILL (out of memory?); it is started' in output
  assert run.nothing_left()


def test_forked_writers_do_not_write_over_each_others_items(
  launch: Any, wait_until: Any
) -> None:
  # Reverb draws the keys of items at random: of one state, if a fork shared it.
  run = launch(
    {
      'learner-0': 'wait',
      'evaluator-0': 'wait',
      'actor-0': 'write',
      'actor-1': 'write',
    },
    *('--actor.num-actors', '2'),
    FAKE_REVERB='1',
    TF_CPP_MIN_LOG_LEVEL='3',
  )
  wait_until(lambda: len(list(run.dir.glob('wrote-*'))) == 2)
  address = run_directory.published_address(run.dir, 'replay')
  found = reverb.Client(address).server_info()['experience']
  assert found.current_size == 400
  assert found.num_episodes == found.current_size
