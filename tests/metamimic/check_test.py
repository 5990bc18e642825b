import pathlib
import re
import signal
import sys

import pytest

from metamimic import check


def _lock(folder: pathlib.Path, text: str) -> pathlib.Path:
  path = folder / 'requirements.txt'
  path.write_text(text)
  return path


def test_this_installation_fits(capsys: pytest.CaptureFixture[str]) -> None:
  assert check.main([]) == 0
  printed = capsys.readouterr().out
  assert 'WRONG' not in printed
  assert 'tensorflow-cpu 2.12.1' in printed
  assert printed.endswith('Everything fits.\n')


def test_misfits_are_named_with_both_versions(
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  capsys: pytest.CaptureFixture[str],
) -> None:
  lock = _lock(tmp_path, 'pytest==0.1\nno-such-package==1.0\nnumpy==1.24.3\n')
  finding = check.check_packages(lock)
  assert finding.detail.splitlines() == [
    '2 of 3 are not as in requirements.txt',
    f'pytest: {pytest.__version__}; expected 0.1',
    'no-such-package: missing; expected 1.0',
  ]
  assert finding.remedy == 'rm -rf .venv && make setup'

  monkeypatch.setattr(check, 'check_packages', lambda: finding)
  monkeypatch.setattr(check, 'check_imports', lambda: 1 / 0)  # Not looked at.
  assert check.main([]) == 1
  printed = capsys.readouterr().out
  assert 'WRONG  packages   2 of 3' in printed
  assert 'to mend it: rm -rf .venv && make setup' in printed
  assert printed.endswith('1 to be mended.\n')


def test_a_wrong_import_does_not_hide_what_came_before(
  monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  fits = check.Finding('packages', 'fit')
  imports = check.check_imports(('json', 'no_such_module'))
  monkeypatch.setattr(
    check, 'check_compiler', lambda: check.Finding('compiler', 'gone', 'get one')
  )
  monkeypatch.setattr(check, 'check_packages', lambda: fits)
  monkeypatch.setattr(check, 'check_imports', lambda: imports)
  assert check.main([]) == 1
  printed = capsys.readouterr().out
  assert "no_such_module: ModuleNotFoundError: No module named 'no_such" in printed
  assert printed.endswith('2 to be mended.\n')


def test_an_import_that_kills_its_process_is_named(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  for name, number in (('aborts', signal.SIGABRT), ('old_cpu', signal.SIGILL)):
    (tmp_path / f'{name}.py').write_text(
      f'import os\nos.kill(os.getpid(), {int(number)})\n'
    )
  aborts = check.check_imports(('json', 'aborts'))
  assert aborts.detail == 'aborts: killed by SIGABRT'
  assert aborts.remedy
  assert 'AVX' in check.check_imports(('old_cpu',)).detail


def test_lock_lines() -> None:
  versions = check.read_lock(check.LOCK)
  assert versions['dm-launchpad-nightly'] == '0.5.2.dev20230217'
  assert versions['numpy'] == '1.24.3'
  assert 'dm-launchpad' not in versions


def test_a_bad_lock_names_file_line_and_expectation(tmp_path: pathlib.Path) -> None:
  lock = _lock(tmp_path, '# a comment\nnumpy>=1.0\n')
  with pytest.raises(ValueError) as error:
    check.read_lock(lock)
  assert str(error.value) == f"{lock}:2: 'numpy>=1.0'; expected name==version"
  assert check.check_packages(lock).remedy == 'git checkout requirements.txt'
  assert check.check_packages(tmp_path / 'none.txt').remedy == 'git checkout none.txt'


def test_python_of_another_version() -> None:
  assert check.check_python((3, 10, 1)).detail == f'3.10.1 ({sys.executable})'
  finding = check.check_python((3, 12, 0))
  assert finding.detail.startswith('3.12.0 (')
  assert finding.remedy.startswith('make setup')


def test_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr('platform.machine', lambda: 'aarch64')
  finding = check.check_platform()
  assert finding.detail.startswith('Linux aarch64')
  assert 'expected Linux x86_64' in finding.detail
  assert finding.remedy


def test_another_system_which_does_not_tell_its_cores(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr('platform.system', lambda: 'Darwin')
  monkeypatch.delattr('os.sched_getaffinity')
  finding = check.check_platform()
  assert finding.detail.startswith('Darwin ')
  assert 'expected Linux x86_64' in finding.detail


def test_no_compiler() -> None:
  finding = check.check_compiler('no-such-compiler')
  assert finding.detail == 'no no-such-compiler on PATH'
  assert finding.remedy == 'apt-get install gcc libc6-dev'


def test_a_compiler_without_headers(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  compiler = tmp_path / 'fakecc'
  compiler.write_text('#!/bin/sh\necho "probe.c:1: no dlfcn.h" >&2\nexit 1\n')
  compiler.chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
  finding = check.check_compiler('fakecc')
  assert finding.detail == f'{compiler}: probe.c:1: no dlfcn.h'
  assert finding.remedy == 'apt-get install gcc libc6-dev'


def test_no_loopback() -> None:
  # Of the range kept for documentation: no machine has it.
  finding = check.check_loopback('192.0.2.1')
  assert finding.detail.startswith('192.0.2.1: ')
  assert finding.remedy == 'ip link set lo up'


def test_rendering_says_with_what_and_how_fast() -> None:
  finding = check.check_rendering()
  assert not finding.remedy
  match = re.fullmatch(
    r'MUJOCO_GL=(egl|osmesa|glfw) draws with .+: (\d+) pictures of 84 x 84 per CPU '
    r'second',
    finding.detail,
  )
  assert match and int(match[2]) > 0


def test_rendering_that_fails_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(check.gl, 'choose_gl', lambda: 'osmesa')
  monkeypatch.setattr(check, '_DRAW', 'raise OSError("lost")')
  finding = check.check_rendering()
  assert finding.detail == 'MUJOCO_GL=osmesa: OSError: lost'
  assert finding.remedy


def test_rendering_that_is_asked_for_and_unknown(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setenv('MUJOCO_GL', 'direct3d')
  check.gl.choose_gl.cache_clear()
  finding = check.check_rendering()
  check.gl.choose_gl.cache_clear()
  assert "MUJOCO_GL is 'direct3d'" in finding.detail
  assert finding.remedy == 'unset MUJOCO_GL'
