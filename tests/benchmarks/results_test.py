"""Tests of benchmarks.results."""

import json
import pathlib

import pytest

from benchmarks import results

_LAUNCH, _START, _END = 'launch', 'start', 'end'


@pytest.mark.parametrize(
  ('events', 'seconds'),
  [
    ([(_LAUNCH, 100), (_START, 101), (_END, 160)], 60),
    ([(_LAUNCH, 100), (_END, 160), (_LAUNCH, 1000), (_START, 1001), (_END, 1030)], 90),
    # The first launcher was killed; nobody knows when.
    ([(_LAUNCH, 100), (_START, 103), (_LAUNCH, 500), (_END, 510)], 13),
  ],
)
def test_breaks_between_launches_do_not_count(
  events: list[tuple[str, float]], seconds: float, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / 'events.jsonl'
  path.write_text(
    ''.join(json.dumps({'wall_time': t, 'event': what}) + '\n' for what, t in events)
  )
  assert results.seconds_running(path) == pytest.approx(seconds)
