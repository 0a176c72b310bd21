# bash completion for the programs of streamsplit. The words come from each program's own --help, so they cannot differ
# from what it accepts.
_streamsplit() {
    local cur=$2 prev=$3 help option='' choices
    COMPREPLY=()
    help=$("$1" --help 2>/dev/null) || return
    # The value of an option, where the help lists the choices.
    [[ $prev == --* ]] && option=$prev
    [[ $prev == = ]] && option=${COMP_WORDS[COMP_CWORD - 2]}
    [[ $cur == = ]] && option=$prev cur=''
    if [[ -n $option ]]; then
        choices=$(sed -n "s/^.*$option=\([a-z0-9.-]*|[a-z0-9|.-]*\).*/\1/p" <<<"$help")
        if [[ -n $choices ]]; then
            mapfile -t COMPREPLY < <(compgen -W "${choices//|/ }" -- "$cur")
            return
        fi
    fi
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(grep -oE -- '(^|[ ,])--?[A-Za-z0-9][A-Za-z0-9-]*=?' <<<"$help" | tr -d ' ,')" -- "$cur")
        [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
        return
    fi
    compopt -o default
}
