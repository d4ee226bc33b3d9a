"""The command, in this process and as a program."""

import pytest

from synthweight.cli import main

# the command as a program; a shell that runs tests in the background makes its children ignore Ctrl-C
CLI = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from synthweight.cli.main import main; main()"


def run_cli(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main.main([*arguments])
        raise SystemExit(0)
    return stopped.value.code
