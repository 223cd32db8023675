"""The command line hands its arguments to the demonstration."""

import subprocess
import sys

import pytest

import mblsr1.__main__
import mblsr1.demo


@pytest.fixture
def demo(monkeypatch):
    calls = []

    def run(*arguments):
        calls.append(arguments)
        return 7

    monkeypatch.setattr(mblsr1.demo, "run", run)
    return calls


def test_defaults(demo):
    assert mblsr1.__main__.main(["demo"]) == 7
    assert demo == [("mblsr1-demo.png", 40.0, 0)]


def test_every_argument(demo):
    assert mblsr1.__main__.main(["demo", "--output", "a b.pdf", "--epochs", "2.5", "--seed", "11"]) == 7
    assert demo == [("a b.pdf", 2.5, 11)]
    assert [type(x) for x in demo[0]] == [str, float, int]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["demo", "--epochs", "many"], "argument --epochs: invalid float value: 'many'"),
        (["demo", "--seed", "1.5"], "argument --seed: invalid int value: '1.5'"),
        (["demo", "--speed", "1"], "unrecognized arguments: --speed 1"),
        (["demo", "--output"], "argument --output: expected one argument"),
    ],
)
def test_bad_arguments_end_with_2_and_a_message(arguments, message, demo, capsys):
    with pytest.raises(SystemExit) as ended:
        mblsr1.__main__.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert demo == []


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
def test_help_names_the_program_and_the_defaults(arguments, demo, capsys):
    with pytest.raises(SystemExit) as ended:
        mblsr1.__main__.main(arguments)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "python -m mblsr1" in text
    if "demo" in arguments:
        assert all(default in text for default in ("mblsr1-demo.png", "40.0", "(0)"))


def test_the_arguments_of_the_process_are_the_default(demo, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mblsr1", "demo", "--seed", "3"])
    mblsr1.__main__.main()
    assert demo == [("mblsr1-demo.png", 40.0, 3)]


def test_importing_the_package_or_its_help_needs_no_plotting():
    code = "import sys, mblsr1, mblsr1.__main__; assert not {'matplotlib', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
