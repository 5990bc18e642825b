import pathlib
import subprocess
import sys
import threading
from typing import Any

import pytest

from agents import waiting


def test_reminder_says_now_and_then_on_what_it_waits(
  monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
  now = [100.0]
  monkeypatch.setattr(waiting.time, 'monotonic', lambda: now[0])
  reminder = waiting.Reminder()
  asked = []

  def describe() -> str:
    asked.append(now[0])
    return 'the learner'

  for now[0] in (101.0, 114.9, 115.0, 120.0, 129.9, 131.0):
    reminder.remind(describe)
  assert asked == [115.0, 131.0]
  assert [r.getMessage() for r in caplog.records] == [
    'waiting 15 s for the learner',
    'waiting 31 s for the learner',
  ]


def test_call_that_hangs_is_waited_for_again_and_not_made_again() -> None:
  go_on, made = threading.Event(), []

  def hang(number: int) -> int:
    made.append(number)
    go_on.wait()
    return number

  call = waiting.Call(hang)
  for number in (1, 2):
    with pytest.raises(TimeoutError, match=r'no answer in 0\.01 s'):
      call(0.01, number)
  go_on.set()
  assert call(60.0, 3) == 1
  assert call(60.0, 4) == 4
  assert made == [1, 4]


def test_call_hands_on_what_is_raised_and_can_be_made_again() -> None:
  errors = iter([OSError('full'), TimeoutError('its own')])

  def fail() -> None:
    raise next(errors)

  call = waiting.Call(fail)
  with pytest.raises(OSError, match='full'):
    call(60.0)
  with pytest.raises(TimeoutError, match='its own'):
    call(60.0)
  with pytest.raises(StopIteration):
    call(60.0)


def test_answer_that_comes_as_the_time_is_over_is_taken(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  wait = waiting.futures.wait

  def late(pending: Any, timeout: float) -> Any:
    found = wait(pending, timeout)
    answer.set()
    wait(pending)
    return found

  answer = threading.Event()
  monkeypatch.setattr(waiting.futures, 'wait', late)
  call = waiting.Call(lambda: answer.wait() and 'parameters')
  with pytest.raises(TimeoutError, match=r'no answer in 0\.01 s'):
    call(0.01)
  assert call(0.01) == 'parameters'


def test_a_process_does_not_wait_for_a_call_that_hangs() -> None:
  code = """
import threading
from agents import waiting
call = waiting.Call(threading.Event().wait)
try:
  call(0.01)
except TimeoutError:
  print('left')
"""
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    timeout=300,
    check=True,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert done.stdout == 'left\n'
