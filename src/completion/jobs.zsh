# Names of jobs that a manager keeps; half a second at most, and nothing if there is none.
(( $+functions[_riverrun_jobs] )) ||
_riverrun_jobs() {
    local -a names
    names=(${(f)"$(riverrun complete-jobs -- ${words[@]:1} 2>/dev/null)"})
    compadd -a names
}

_riverrun() {