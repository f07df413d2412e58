# bash completion for seamless-run; needs bash-completion. Its place: /usr/share/bash-completion/completions/seamless-run

_seamless_run()
{
    local cur prev words cword
    # An address and SIGNAL=ACTION are one word each.
    _init_completion -n := || return

    local verbs="status restart stop notify check"
    local signals="HUP INT QUIT USR1 USR2 ALRM TERM CHLD CONT TSTP TTIN TTOU URG WINCH IO PWR RTMIN"
    local valued="--pid-file -p --name --pre-start --post-start --listen -l --listen-env --ready -r --notification-fd
        --on --prepare-signal --detach-signal --drain-signal --ready-timeout --probe-timeout --prepare-timeout
        --drain-timeout --stop-timeout --orphan-timeout --hold-timeout"
    local run="--pid-file --name --pre-start --post-start --listen --listen-env --ready --notification-fd --on
        --prepare-signal --detach-signal --drain-signal --drain-group --ready-timeout --probe-timeout
        --prepare-timeout --drain-timeout --stop-timeout --orphan-timeout --hold-timeout --quiet --verbose"
    local common="--help --version"
    local verb=
    # A verb is one as the first word only.
    if ((cword > 1)); then
        case ${words[1]} in
            status | restart | stop | notify | check) verb=${words[1]} ;;
        esac
    fi

    # Where the command begins: behind --, or at the first word that is neither an option nor one's value.
    if [[ -z $verb || $verb == check ]]; then
        local index=1 word
        [[ $verb ]] && index=2 valued+=" --unit --service"
        while ((index < cword)); do
            word=${words[index]}
            if [[ $word == -- ]]; then
                _seamless_run_command $((index + 1))
                return
            elif [[ $word != -* ]]; then
                _seamless_run_command "$index"
                return
            elif [[ " $(echo $valued) " == *" $word "* ]]; then
                ((index++))
            fi
            ((index++))
        done
    fi

    # --option=VALUE is completed as --option VALUE is.
    local option=$prev value=$cur before=
    if [[ $cur == --*=* ]]; then
        option=${cur%%=*} value=${cur#*=} before=$option=
    fi
    local known=yes
    case $verb:$option in
        :--pid-file | :-p | check:--pid-file | check:-p | check:--service)
            local directories=
            [[ $option == --service ]] && directories=-d
            cur=$value
            _filedir $directories
            ;;
        check:--unit)
            COMPREPLY=($(compgen -W "$(systemctl list-unit-files --no-legend --no-pager --type=service 2>/dev/null |
                cut -d' ' -f1)" -- "$value"))
            ;;
        *:--listen-env) COMPREPLY=($(compgen -W "systemd nginx server-starter" -- "$value")) ;;
        *:--ready | *:-r)
            COMPREPLY=($(compgen -W "notify fd: listen: pid-file: exec: after:" -- "$value"))
            [[ ${COMPREPLY-} == *: ]] && compopt -o nospace
            ;;
        *:--on)
            if [[ $value == *=* ]]; then
                COMPREPLY=($(compgen -P "${value%%=*}=" -W "auto restart stop forward ignore $signals" -- "${value#*=}"))
            else
                COMPREPLY=($(compgen -S = -W "$signals" -- "$value"))
                compopt -o nospace
            fi
            ;;
        *:--prepare-signal) COMPREPLY=($(compgen -W "auto none $signals" -- "$value")) ;;
        *:--detach-signal | *:--drain-signal) COMPREPLY=($(compgen -W "$signals" -- "$value")) ;;
        *:--ready-timeout | *:--probe-timeout | *:--prepare-timeout | *:--drain-timeout | *:--stop-timeout | \
            *:--orphan-timeout | *:--hold-timeout | restart:--timeout)
            COMPREPLY=($(compgen -W "none 5s 30s 1m 10m 1h" -- "$value"))
            ;;
        *:--listen | *:-l | *:--name | *:--pre-start | *:--post-start | *:--notification-fd) ;;
        *) known= ;;
    esac
    if [[ $known ]]; then
        [[ $before ]] && COMPREPLY=("${COMPREPLY[@]/#/$before}")
        # What stands before a : or = that breaks words is there already.
        _seamless_run_trim "$before$value"
        return
    fi

    local options
    case $verb in
        status) options="--json --watch --quiet $common" ;;
        restart) options="--no-wait --timeout $common" ;;
        stop) options="--old $common" ;;
        notify) options=$common ;;
        check) options="--unit --user --service --json $run $common" ;;
        *) options="$run --dry-run $common" ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    case $verb in
        status | restart | stop) _filedir ;;
        notify) COMPREPLY=($(compgen -W "started prepared stopping reloading watchdog status" -- "$cur")) ;;
        *)
            ((cword == 1)) && COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
            # Not every program of the machine before anything was typed of it.
            if ((cword > 1)) || [[ $cur ]]; then
                COMPREPLY+=($(compgen -c -- "$cur"))
                [[ $cur == */* ]] && compopt -o filenames && COMPREPLY+=($(compgen -A file -X '' -- "$cur"))
            fi
            ;;
    esac
}

# What completes the command itself, from this one of the words on: COMP_WORDS has more of them, cut at : and =.
_seamless_run_command()
{
    local typed=${words[*]:0:$1} offset=0
    typed=${typed//[[:space:]]/}
    while ((${#typed} > 0 && offset < COMP_CWORD)); do
        local piece=${COMP_WORDS[offset]//[[:space:]]/}
        typed=${typed:${#piece}}
        ((offset++))
    done
    _command_offset "$offset"
}

# readline replaces only what follows the last character of COMP_WORDBREAKS.
_seamless_run_trim()
{
    local typed=$1 cut= index
    for ((index = ${#typed} - 1; index >= 0; index--)); do
        if [[ ${typed:index:1} == [:=] && $COMP_WORDBREAKS == *"${typed:index:1}"* ]]; then
            cut=${typed:0:index+1}
            break
        fi
    done
    [[ $cut ]] && COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}

complete -F _seamless_run seamless-run
