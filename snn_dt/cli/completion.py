"""`snn-dt completion bash|zsh`: a script that completes commands and flags in a shell."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence

from snn_dt.errors import ConfigError

SHELLS = ("bash", "zsh")
USAGE = """\
usage: snn-dt completion bash|zsh

bash: put  eval "$(snn-dt completion bash)"  into ~/.bashrc
zsh:  put  eval "$(snn-dt completion zsh)"  into ~/.zshrc"""
SCRIPT = """\
_snn_dt() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" words=
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands}"; elif [[ "$word" != -* ]]; then words=; fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _snn_dt snn-dt
"""


def completion_main(arguments: Sequence[str]) -> int:
    """Print the script. Flags are those that each command's help names."""
    if list(arguments) in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise ConfigError(f"expected one of {', '.join(SHELLS)}, found {' '.join(arguments) or 'nothing'}; name one")
    from snn_dt.cli.main import COMMANDS

    cases = "\n".join(f'    {name}) words="{" ".join(_flags(name))}" ;;' for name in COMMANDS)
    before = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n" if arguments[0] == "zsh" else ""
    print(before + SCRIPT.format(cases=cases, commands=" ".join(COMMANDS)), end="")
    return 0


def _flags(name: str) -> list[str]:
    """Return the flags in the whole help of a command, in order."""
    from snn_dt.cli.main import run_command

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        run_command(name, ["--help-all" if name == "train" else "--help"])
    return list(dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][\w.-]*", shown.getvalue())))
