
# Names of jobs, where a command asks a manager and none is there yet; half a second at most, and nothing if there is no manager.
_riverrun_with_jobs() {
    _riverrun "$@"
    local verbs='|@VERBS@|' switches='|@SWITCHES@|'
    local cur="${COMP_WORDS[COMP_CWORD]}" verb="${COMP_WORDS[1]:-}" first=2 before='' i
    if [[ "$verbs" == *"|$verb "* ]]; then
        verb="$verb ${COMP_WORDS[2]:-}"
        first=3
    fi
    if [[ "$verbs" != *"|$verb|"* || "$cur" == -* || "$COMP_CWORD" -lt "$first" ]]; then
        return 0
    fi
    for ((i = first; i <= COMP_CWORD; i++)); do
        # What follows an option that is no switch is its value.
        if [[ "$before" == -* && "$before" != *=* && "$switches" != *"|$before|"* ]]; then
            [[ "$i" -eq "$COMP_CWORD" ]] && return 0
        elif [[ "$i" -lt "$COMP_CWORD" && "${COMP_WORDS[i]}" != -* ]]; then
            return 0
        fi
        before="${COMP_WORDS[i]}"
    done
    COMPREPLY=($(compgen -W "$(riverrun complete-jobs -- "${COMP_WORDS[@]:1}" 2>/dev/null)" -- "$cur"))
}

complete -F _riverrun_with_jobs -o bashdefault -o default riverrun
