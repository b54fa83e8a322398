"""The set-up: what a machine lacks is named before anything is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = Path(__file__).resolve().parents[2] / "conf/environment"
TOOLS = ("bash", "sed", "java", "gcc", "g++", "cmake", "make")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A PATH with what the README asks for and nothing else."""
    for tool in TOOLS:
        (tmp_path / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is needed"))
    (tmp_path / "python3.11").symlink_to(Path(sys.executable).resolve())
    return tmp_path


def write_command(path: Path, body: str) -> None:
    path.unlink()
    path.write_text(f"#!{path.parent / 'bash'}\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def check(machine: Path, **environment: str) -> tuple[int, str]:
    """The check's exit code and everything that it printed."""
    result = subprocess.run(
        [machine / "bash", ENVIRONMENT / "check_machine.sh"],
        env={"PATH": str(machine), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


def test_a_machine_with_everything_passes_in_silence(machine: Path) -> None:
    assert check(machine) == (0, "")


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("java", "java is missing: install a Java 17 JDK (Debian: apt-get install openjdk-17-jdk-headless)"),
        ("gcc", "gcc is missing: install a C compiler (Debian: apt-get install build-essential)"),
        ("g++", "g++ is missing: install a C++ compiler (Debian: apt-get install build-essential)"),
        ("cmake", "cmake is missing: install CMake (Debian: apt-get install cmake)"),
        ("make", "make is missing: install make (Debian: apt-get install build-essential)"),
        (
            "python3.11",
            "python3.11 is missing: install Python 3.11 "
            "(Debian: apt-get install python3.11 python3.11-venv python3.11-dev)",
        ),
    ],
)
def test_a_missing_tool_is_one_line_and_a_code(machine: Path, tool: str, line: str) -> None:
    (machine / tool).unlink()
    assert check(machine) == (2, f"lbsf: {line}\n")


def test_each_missing_tool_has_its_line(machine: Path) -> None:
    for tool in ("java", "g++"):
        (machine / tool).unlink()
    code, output = check(machine)
    assert code == 2
    assert [line.split()[1] for line in output.splitlines()] == ["java", "g++"]


def test_another_java_is_refused(machine: Path) -> None:
    write_command(machine / "java", "echo 'openjdk version \"21.0.2\" 2024-01-16' >&2")
    assert check(machine) == (
        2,
        "lbsf: java is version 21, not 17: install openjdk-17-jdk-headless and put it first on PATH\n",
    )


def test_the_java_that_spark_would_start_is_the_one_checked(machine: Path) -> None:
    code, output = check(machine, JAVA_HOME="/no/such/jdk")
    assert code == 2
    assert output.startswith("lbsf: /no/such/jdk/bin/java is missing: install a Java 17 JDK")


def test_a_python_that_is_on_the_path_but_does_not_run_is_missing(machine: Path) -> None:
    write_command(machine / "python3.11", "echo 'the version is not installed' >&2; exit 127")
    code, output = check(machine)
    assert code == 2
    assert output.startswith("lbsf: python3.11 is missing: install Python 3.11")


def test_a_python_without_venv_and_headers_is_incomplete(machine: Path) -> None:
    write_command(machine / "python3.11", "echo python3.11-venv; echo python3.11-dev")
    assert check(machine) == (
        2,
        "lbsf: Python 3.11 is incomplete: install python3.11-venv python3.11-dev (Debian: apt-get install)\n",
    )


@pytest.mark.parametrize("script", sorted(ENVIRONMENT.glob("*.sh")), ids=lambda path: path.name)
def test_each_script_parses(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_pinned_files_hold_exact_versions_and_dev_contains_main() -> None:
    pins = {}
    for name in ("main.txt", "dev.txt", "installer.txt"):
        lines = (ENVIRONMENT / name).read_text(encoding="utf-8").split()
        assert all(line.count("==") == 1 for line in lines)
        pins[name] = set(lines)
    assert pins["main.txt"] < pins["dev.txt"]


def test_a_second_set_up_does_nothing(tmp_path: Path) -> None:
    """With .venv as the pinned files say, the set-up ends before it would call pip or uv."""
    project = tmp_path / "project"
    shutil.copytree(ENVIRONMENT, project / "conf/environment")
    shutil.copy(ENVIRONMENT.parents[1] / "setup.py", project)
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho $* >> {tmp_path / 'calls'}\nexit 1\n", encoding="utf-8")
    python.chmod(0o755)
    script = project / "conf/environment/create_environment.sh"
    stamp = subprocess.run(
        "cat conf/environment/*.txt conf/environment/*.sh setup.py | sha256sum | cut -d ' ' -f 1",
        shell=True,
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (project / ".venv/ready").write_text(stamp, encoding="utf-8")
    result = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not (tmp_path / "calls").exists()
