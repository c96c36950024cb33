"""What all commands share: help, exit codes, errors as one paragraph, plain output, and a short start-up."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import visiontok
from visiontok.base.errors import ConfigError, TokenError, UnknownNameError
from visiontok.cli import app, commands
from visiontok.cli.commands import Commands, explain
from visiontok.cli.device import pick_device
from visiontok.cli.output import file_names, print_table

VISIONTOK = [sys.executable, "-m", "visiontok"]
runner = CliRunner()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VISIONTOK, *arguments], capture_output=True, text=True, env={**os.environ, **environment})


def failing(error: BaseException) -> typer.Typer:
    """The real group with one command that fails."""

    class One(Commands):
        def list_commands(self, ctx: object) -> list[str]:
            return ["fail"]

        def get_command(self, ctx: object, cmd_name: str) -> object:
            return self.commands[cmd_name]

    alone = typer.Typer(cls=One, rich_markup_mode=None, pretty_exceptions_enable=False)

    @alone.callback()
    def options(debug: bool = False) -> None:
        pass

    @alone.command()
    def fail() -> None:
        raise error

    return alone


class TestStart:
    @pytest.mark.parametrize("command", [None, ["list", "titok"], ["info", "titok-l32"], ["info", "vqgan-photos-f4"], ["train"]])
    def test_nothing_heavy_is_imported(self, command: list[str] | None) -> None:
        statement = "import visiontok" if command is None else f"from visiontok.cli import app; app({command!r}, standalone_mode=False)"
        script = f"import sys\n{statement}\nprint(sorted({{'torch', 'numpy', 'rich', 'PIL', 'visiontok.base.config'}} & set(sys.modules)))"
        output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert output.splitlines()[-1] == "[]"

    def test_a_family_is_shown_without_what_reads_images(self) -> None:
        script = "import sys\nfrom visiontok.cli import app; app(['info', 'titok'], standalone_mode=False)\nprint('torchvision' in sys.modules)"
        output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert output.splitlines()[-1] == "False"

    def test_the_overview_lists_every_command(self) -> None:
        overview = runner.invoke(app, ["--help"]).output
        for name in commands.FUNCTIONS:
            assert re.search(rf"^  {name} ", overview, re.MULTILINE)

    def test_the_module_is_the_command(self) -> None:
        assert run("--help").stdout.startswith("Usage: visiontok [")
        assert "Usage: visiontok encode" in run("encode", "--help").stdout

    def test_version(self) -> None:
        assert run("--version").stdout == f"visiontok {visiontok.__version__}\n"


class TestCompletion:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("visiontok tok", {"tokenize"}),
            ("visiontok info titok-l3", {"titok-l32"}),
            ("visiontok encode a.png --model vqgan", {"vqgan-photos-f4"}),
            ("visiontok decode a.npz -m vqgan", {"vqgan-photos-f4"}),
            ("visiontok generate -m maskgit-titok-l", {"maskgit-titok-l32"}),
            ("visiontok generate -t maskgit-", {"maskgit-vqgan-f16-256"}),
            ("visiontok train small/vq-r", {"small/vq-reset"}),
            ("visiontok evaluate digits-", {"digits-generation"}),
            ("visiontok evaluate rd -m flextok-d18-d2", {"flextok-d18-d28-in1k", "flextok-d18-d28-dfn"}),
            ("visiontok quantize kl16-256-", {"kl16-256-mar"}),
            ("visiontok study adaptive", {"adaptive-length"}),
            ("visiontok list --modality im", {"image"}),
        ],
    )
    def test_names(self, line: str, expected: set[str]) -> None:
        environment = {"_VISIONTOK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        assert set(runner.invoke(app, [], env=environment, prog_name="visiontok").stdout.split()) == expected

    def test_in_a_shell_without_torch(self) -> None:
        script = "import sys\nfrom visiontok.cli import main\ntry: main()\nexcept SystemExit: print('torch' in sys.modules)"
        environment = {"_VISIONTOK_COMPLETE": "complete_bash", "COMP_WORDS": "visiontok reconstruct a.png -m titok-l", "COMP_CWORD": "4"}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **environment}, check=True)
        assert done.stdout.split() == ["titok-l32", "titok-ll32-vae", "False"]

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_script_of_a_shell_calls_the_command(self, shell: str) -> None:
        result = runner.invoke(app, [], env={"_VISIONTOK_COMPLETE": f"source_{shell}"}, prog_name="visiontok")
        assert f"_VISIONTOK_COMPLETE=complete_{shell}" in result.output


class TestErrors:
    def test_a_paragraph_on_stderr(self) -> None:
        result = run("info", "titok-l23")
        assert (result.returncode, result.stdout) == (1, "")
        assert re.fullmatch(r"Error: .*'titok-l23'.*titok-l32.*\n", result.stderr)

    def test_debug_shows_the_traceback(self) -> None:
        result = run("--debug", "info", "nothing")
        assert result.returncode == 1
        assert "Traceback" in result.stderr
        assert "UnknownNameError" in result.stderr
        from_environment = runner.invoke(app, ["info", "nothing"], env={"VISIONTOK_DEBUG": "1"})
        assert isinstance(from_environment.exception, UnknownNameError)

    def test_usage(self) -> None:
        for arguments in (["list", "--colors"], ["info"], ["reconstruct", "a.png"], ["--nothing"]):
            result = runner.invoke(app, arguments)
            assert result.exit_code == 2
            assert "Traceback" not in result.output

    @pytest.mark.parametrize(
        ("given", "close"),
        [("lisst", "list"), ("eval", "evaluate"), ("evaluate-rd", "evaluate rd"), ("tokenise", "tokenize")],
    )
    def test_an_unknown_command_lists_the_close_ones(self, given: str, close: str) -> None:
        result = runner.invoke(app, [given, "x", "-o", "y"])
        assert (result.exit_code, result.stdout) == (2, "")
        error = result.stderr.splitlines()[-1]
        assert repr(given) in error
        assert close in error.partition("?")[0]

    def test_an_unknown_command_with_nothing_close(self) -> None:
        result = runner.invoke(app, ["zzz"])
        assert result.exit_code == 2
        assert "--help" in result.stderr.splitlines()[-1]

    @pytest.mark.parametrize(
        ("error", "code", "text"),
        [
            (ConfigError("width: must be positive"), 1, "Error: width: must be positive\n"),
            (FileNotFoundError(2, "No such file or directory", "a.png"), 1, "Error: a.png: No such file or directory\n"),
            (OSError(28, "No space left on device"), 1, "Error: No space left on device\n"),
            (KeyboardInterrupt(), 130, "Interrupted.\n"),
        ],
    )
    def test_exit_codes(self, error: BaseException, code: int, text: str) -> None:
        result = runner.invoke(failing(error), ["fail"])
        assert (result.exit_code, result.output) == (code, text)

    def test_a_defect_is_not_hidden(self) -> None:
        result = runner.invoke(failing(ZeroDivisionError("a defect")), ["fail"])
        assert isinstance(result.exception, ZeroDivisionError)
        result = runner.invoke(failing(ConfigError("x")), ["--debug", "fail"])
        assert isinstance(result.exception, ConfigError)

    def test_explain(self) -> None:
        assert explain(OSError(18, "Invalid cross-device link", "a", None, "b")) == "a -> b: Invalid cross-device link"
        assert explain(OSError("a plain message")) == "a plain message"
        assert explain(TokenError()) == "TokenError"

    @pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="POSIX signals")
    def test_interrupted_for_real(self, tmp_path: Path) -> None:
        (tmp_path / "slow.py").write_text(
            "import signal, time\nfrom visiontok.cli import app, commands, info\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs of a shell ignore it otherwise
            "def wait(*_): print('waiting', flush=True); time.sleep(60)\ninfo.print_facts = wait\napp(['info', 'titok'])"
        )
        process = subprocess.Popen([sys.executable, str(tmp_path / "slow.py")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == "Interrupted.\n"
        assert process.returncode == 130


class TestOutput:
    def test_a_pipe_gets_plain_text(self) -> None:
        output = run("list", COLUMNS="20", FORCE_COLOR="1").stdout
        assert output.isascii()
        assert "\x1b" not in output
        row = next(line.split() for line in output.splitlines() if line.startswith("titok-sl256-vq8k "))
        assert row[1:5] == ["tokenizer", "image", "256", "8192"]
        assert row[-1] == "yucornetto/tokenizer_titok_sl256_vq8k_imagenet"

    @pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
    def test_a_closed_pipe_is_no_error(self) -> None:
        script = "import os\nos.close(0)\nfrom visiontok.cli import app, list\nlist.print_table = lambda *_: print('x' * 10**6)\napp(['list'])"
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.read(1)
        process.stdout.close()
        process.wait()
        assert process.stderr is not None
        assert process.stderr.read() == b""

    @pytest.mark.parametrize("width", [24, 80])
    def test_a_terminal_gets_untruncated_values(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(width))
        print_table(("name", "from"), [["[bold]a", "owner/a-long-name-that-does-not-fit"]])
        header, row = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
        assert header.split() == ["name", "from"]
        assert row.split() == ["[bold]a", "owner/a-long-name-that-does-not-fit"]

    def test_file_names_stay_in_their_folder(self) -> None:
        keys = ("a/b.jpg", "c/b.png", "../../etc/passwd", "..", "", "C:\\x\\y.png", "B.gif", "/")
        assert file_names(keys, ".png") == ["b.png", "b-2.png", "passwd.png", "3.png", "4.png", "y.png", "B-3.png", "7.png"]


class TestDevice:
    def test_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        assert str(pick_device("auto")) == str(pick_device("cpu")) == "cpu"
        with pytest.raises(ConfigError, match=r"--device cuda: .*use one of cpu"):
            pick_device("cuda")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert [str(pick_device(name)) for name in ("auto", "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
        for name in ("cuda:2", "gpu", "cuda:", "cuda:x", "cpu:", ""):
            with pytest.raises(ConfigError, match="--device"):
                pick_device(name)
