"""`fim-server completion SHELL`: a script that completes fim-server's commands and options.

The script is made from the parser, so it knows every command and option of this version.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, slots=True)
class _Option:
    """An option: its names, the values it may have (if they are few), its help in one line."""

    names: tuple[str, ...]
    values: tuple[str, ...]
    takes_value: bool
    help: str


@dataclass(frozen=True, slots=True)
class _Command:
    """A command by its words, such as `bench latency`; `children` are the words that may follow."""

    words: tuple[str, ...]
    help: str
    children: tuple[tuple[str, str], ...]
    options: tuple[_Option, ...]

    @property
    def path(self) -> str:
        return " ".join(self.words)


def run(arguments: argparse.Namespace) -> int:
    """Print the script; the exit code."""
    commands = list(_commands(arguments.parser, (), ""))
    sys.stdout.write({"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](commands))
    return 0


def _commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...], text: str
) -> Iterator[_Command]:
    """The command of a parser, then those below it."""
    children: list[tuple[str, str]] = []
    below: list[tuple[argparse.ArgumentParser, str]] = []
    options = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                children.append((name, _line(helps.get(name, ""))))
                below.append((child, helps.get(name, "")))
        elif action.option_strings and action.help != argparse.SUPPRESS:
            values = tuple(map(str, action.choices or ()))
            takes_value = action.nargs != 0
            names = tuple(action.option_strings)
            options.append(_Option(names, values, takes_value, _line(action.help or "")))
    yield _Command(words, text, tuple(children), tuple(options))
    for (name, _), (child, help_text) in zip(children, below, strict=True):
        yield from _commands(child, (*words, name), help_text)


def _line(text: str) -> str:
    """A help text as plain text, safe inside quotes and brackets of each shell."""
    return " ".join(text.split()).translate(str.maketrans("'\"`[]:$\\", "        ")).strip()


def _bash(commands: list[_Command]) -> str:
    cases = "".join(
        f"        '{command.path}') words='{_bash_words(command)}' ;;\n" for command in commands
    )
    values = "".join(
        f"        '{command.path} {name}') words='{' '.join(option.values)}' ;;\n"
        for command in commands
        for option in command.options
        for name in option.names
        if option.values
    )
    known = " ".join(f"'{command.path}'" for command in commands if command.words)
    return f"""\
# bash completion for fim-server: fim-server completion bash > \\
#   ~/.local/share/bash-completion/completions/fim-server
_fim_server() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    local path='' word next known words=''
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        next="${{path:+$path }}$word"
        for known in {known}; do
            [ "$next" = "$known" ] && path=$next
        done
    done
    case "$path $prev" in
{values}    esac
    if [ -z "$words" ]; then
        case "$path" in
{cases}        esac
        [[ $cur == -* ]] || words=$(printf '%s\\n' $words | grep -v '^-')
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _fim_server fim-server
"""


def _bash_words(command: _Command) -> str:
    names = [name for name, _ in command.children]
    return " ".join([*names, *(name for option in command.options for name in option.names)])


def _zsh(commands: list[_Command]) -> str:
    functions = "".join(map(_zsh_function, commands))
    return f"""\
#compdef fim-server
# zsh completion for fim-server: fim-server completion zsh > a folder of $fpath/_fim-server
{functions}
if [ "$funcstack[1]" = "_fim-server" ]; then
    _fim-server "$@"
else
    compdef _fim-server fim-server
fi
"""


def _zsh_function(command: _Command) -> str:
    specs = [
        f"'{name}[{option.help}]{_zsh_value(option)}'"
        for option in command.options
        for name in option.names
    ]
    if not command.children:
        lines = " \\\n        ".join([*specs, "'*:file:_files'"])
        return f"{_zsh_name(command.words)}() {{\n    _arguments \\\n        {lines}\n}}\n"
    choices = " ".join(f"'{name}:{text}'" for name, text in command.children)
    cases = "".join(
        f"            {name}) {_zsh_name((*command.words, name))} ;;\n"
        for name, _ in command.children
    )
    lines = " \\\n        ".join([*specs, "'1: :->command'", "'*:: :->rest'"])
    return f"""\
{_zsh_name(command.words)}() {{
    local state line
    _arguments -C \\
        {lines}
    case $state in
    command) local -a choices=({choices}); _describe command choices ;;
    rest)
        case $line[1] in
{cases}        esac ;;
    esac
}}
"""


def _zsh_name(words: tuple[str, ...]) -> str:
    return "_".join(["_fim-server", *words])


def _zsh_value(option: _Option) -> str:
    if not option.takes_value:
        return ""
    return f":value:({' '.join(option.values)})" if option.values else ":value:_files"


def _fish(commands: list[_Command]) -> str:
    lines = [
        "# fish completion for fim-server: fim-server completion fish > \\",
        "#   ~/.config/fish/completions/fim-server.fish",
        "function __fim_server_at",
        "    set -l plain (string match -v -- '-*' (commandline -opc)[2..])",
        "    set -l count (count $argv)",
        "    test (count $plain) -ge $count",
        '    and test "$plain[1..$count]" = "$argv"',
        "end",
        "function __fim_server_next",
        "    set -l plain (string match -v -- '-*' (commandline -opc)[2..])",
        '    test "$plain" = "$argv"',
        "end",
    ]
    for command in commands:
        here = f"__fim_server_next {command.path}".strip()
        below = f"__fim_server_at {command.path}".strip()
        for name, text in command.children:
            lines.append(f"complete -c fim-server -f -n '{here}' -a {name} -d '{text}'")
        for option in command.options:
            flags = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            )
            value = f" -x -a '{' '.join(option.values)}'" if option.values else ""
            value = value or (" -r" if option.takes_value else "")
            condition = below if command.words else "__fim_server_next"
            lines.append(
                f"complete -c fim-server -n '{condition}' {flags}{value} -d '{option.help}'"
            )
    return "\n".join(lines) + "\n"
