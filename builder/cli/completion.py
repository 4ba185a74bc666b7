"""`builder completion`: what makes a shell ask `builder __complete` at TAB (cli/complete.py)."""

from __future__ import annotations

import argparse
import sys

_BASH = """\
# eval "$(builder completion bash)", or keep this as
# ~/.local/share/bash-completion/completions/builder
_builder() {
    local line
    local -a found
    mapfile -t found < <("${1/#\\~/$HOME}" __complete bash "$COMP_WORDBREAKS" "$1" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    COMPREPLY=()
    for line in "${found[@]:1}"; do
        COMPREPLY+=("${line%%$'\\t'*}")
    done
    case ${found[0]-} in
        :folders) compopt +o bashdefault +o default -o dirnames -o filenames ;;
        :nothing) compopt +o bashdefault +o default ;;
    esac
    case ${COMPREPLY[0]-} in
        *[:/]) compopt -o nospace ;;
    esac
}
complete -o nosort -o bashdefault -o default -F _builder builder
"""  # noqa: E501
_ZSH = """\
#compdef builder
# source <(builder completion zsh), or keep this as _builder in a folder of $fpath
_builder() {
    local line otherwise
    local -a found described plain
    found=("${(@f)$(${(Q)words[1]/#\\~/$HOME} __complete zsh "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    otherwise=${found[1]}
    for line in "${(@)found[2,-1]}"; do
        described+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
        plain+=("${line%%$'\\t'*}")
    done
    if (( $#described )); then
        if [[ ${plain[1]} == *[:/] ]]; then
            compadd -S '' -a plain
        else
            _describe -V builder described
        fi
        return
    fi
    compset -P '--[^=]#='
    case $otherwise in
        :files) compset -P '*:'; _files ;;
        :folders) _files -/ ;;
    esac
}
if [[ $funcstack[1] == _builder ]]; then
    _builder "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _builder builder
fi
"""  # noqa: E501
_FISH = """\
# builder completion fish | source, or keep this as ~/.config/fish/completions/builder.fish
function __builder_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct | string unescape)
    set -q word[1]; or set word (commandline -ct)
    set -l found ($words[1] __complete fish $words "$word" 2>/dev/null)
    if test (count $found) -gt 1
        printf '%s\\n' $found[2..]
        return
    end
    set -l before (string match -r -- '^(?:--[^=]*=)?(?:[a-z-]+:)?' $word)
    set -l path (string sub -s (math 1 + (string length -- "$before")) -- $word)
    switch "$found[1]"
        case :files
            printf "$before%s\\n" (__fish_complete_path $path)
        case :folders
            printf "$before%s\\n" (__fish_complete_directories $path '')
    end
end
complete -c builder -f -a '(__builder_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(arguments: argparse.Namespace) -> int:
    sys.stdout.write(SCRIPTS[arguments.shell])
    return 0
