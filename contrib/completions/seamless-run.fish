# fish completion for seamless-run. Its place: /usr/share/fish/vendor_completions.d/seamless-run.fish

set -g __seamless_run_verbs status restart stop notify check
set -g __seamless_run_signals HUP INT QUIT USR1 USR2 ALRM TERM CHLD CONT TSTP TTIN TTOU URG WINCH IO PWR RTMIN
set -g __seamless_run_times none 5s 30s 1m 10m 1h

# The verb, if it is this one: as the first word only.
function __seamless_run_verb
    set -l words (commandline -opc)
    test "$words[2]" = "$argv[1]"
end

# The words of the command, from its name to the cursor; fails where it has not begun.
function __seamless_run_command
    set -l words (commandline -opc)
    set -e words[1]
    if test "$words[1]" = check
        set -e words[1]
    else if contains -- "$words[1]" $__seamless_run_verbs
        return 1
    end
    set -l valued -p --pid-file --name --pre-start --post-start -l --listen --listen-env -r --ready \
        --notification-fd --on --prepare-signal --detach-signal --drain-signal --ready-timeout --probe-timeout \
        --prepare-timeout --drain-timeout --stop-timeout --orphan-timeout --hold-timeout --unit --service
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                string join -- \n $words
                return 0
            case '-*'
                contains -- $words[1] $valued; and set -e words[1]
                set -e words[1]
            case '*'
                string join -- \n $words
                return 0
        end
    end
    return 1
end

# Whether an option of ours can be typed here: for a run, or for check.
function __seamless_run_options
    set -l words (commandline -opc)
    not contains -- "$words[2]" status restart stop notify
    and not __seamless_run_command >/dev/null
end

function __seamless_run_first
    test (count (commandline -opc)) -eq 1
end

function __seamless_run_complete_command
    set -l words (__seamless_run_command) (commandline -ct)
    set -l before (string escape -- $words[1..-2])
    complete -C "$before $words[-1]"
end

function __seamless_run_rules
    for signal in $__seamless_run_signals
        for action in auto restart stop forward ignore
            echo $signal=$action
        end
    end
end

complete -c seamless-run -f
complete -c seamless-run -n __seamless_run_first -a status -d 'show every generation of a running service'
complete -c seamless-run -n __seamless_run_first -a restart -d 'restart it, and wait for the verdict'
complete -c seamless-run -n __seamless_run_first -a stop -d 'end every generation, or those that drain'
complete -c seamless-run -n __seamless_run_first -a notify -d 'say to the launcher how this daemon is'
complete -c seamless-run -n __seamless_run_first -a check -d 'say what will go wrong with a service'

# The command: its name, and then whatever it takes itself.
complete -c seamless-run -n '__seamless_run_options; and test -n (commandline -ct)' -a '(__fish_complete_command)'
complete -c seamless-run -n '__seamless_run_command >/dev/null' -a '(__seamless_run_complete_command)'

set -l run -c seamless-run -n __seamless_run_options
complete $run -s p -l pid-file -rF -d 'names the service'
complete $run -l name -x -d 'what it is called in log lines'
complete $run -l pre-start -x -d 'run this before the daemon; it may say no'
complete $run -l post-start -x -d 'run this once the daemon has been started'
complete $run -s l -l listen -x -d 'open this socket, hold it, and pass it to the daemon'
complete $run -l listen-env -x -a 'systemd nginx server-starter' -d 'how it is told of them'
complete $run -s r -l ready -x -a 'notify fd: listen: pid-file: exec: after:' -d 'when a new generation is taken for ready'
complete $run -l notification-fd -x -d 'pass readiness on to s6'
complete $run -l on -x -a '(__seamless_run_rules)' -d 'what a signal to the launcher means'
complete $run -l prepare-signal -x -a "auto none $__seamless_run_signals" -d 'tells the daemon that a successor will come'
complete $run -l detach-signal -x -a "$__seamless_run_signals" -d 'by which the daemon may answer'
complete $run -l drain-signal -x -a "$__seamless_run_signals" -d 'tells the daemon to finish, and exit'
complete $run -l drain-group -d 'send that to its whole process group'
complete $run -l ready-timeout -x -a "$__seamless_run_times" -d 'stop a new generation that is not ready by then'
complete $run -l probe-timeout -x -a "$__seamless_run_times" -d 'for one run of --ready exec:COMMAND'
complete $run -l prepare-timeout -x -a "$__seamless_run_times" -d 'for the answer to the prepare signal'
complete $run -l drain-timeout -x -a "$__seamless_run_times" -d 'KILL a replaced generation that still drains'
complete $run -l stop-timeout -x -a "$__seamless_run_times" -d 'KILL at a stop'
complete $run -l orphan-timeout -x -a "$__seamless_run_times" -d 'a detached generation waits that long'
complete $run -l hold-timeout -x -a "$__seamless_run_times" -d 'keep the sockets of a daemon that has died'
complete $run -s q -l quiet -d 'log warnings only'
complete $run -s v -l verbose -d 'log what the daemon says, too'
complete -c seamless-run -n '__seamless_run_options; and not __seamless_run_verb check' -l dry-run -d 'say what would be done, and do nothing'
complete -c seamless-run -n 'not __seamless_run_command >/dev/null' -s h -l help -d 'say what can be typed'
complete -c seamless-run -n 'not __seamless_run_command >/dev/null' -s V -l version -d 'the version'

set -l check -c seamless-run -n '__seamless_run_verb check; and __seamless_run_options'
complete $check -l unit -x -a "(systemctl list-unit-files --no-legend --no-pager --type=service 2>/dev/null | string replace -r ' .*' '')" -d 'a unit of systemd'
complete $check -l user -d 'the unit is one of this user\'s own manager'
complete $check -l service -x -a '(__fish_complete_directories)' -d 'a service directory'
complete $check -l json -d 'one JSON object'

for verb in status restart stop
    complete -c seamless-run -n "__seamless_run_verb $verb" -F
end
complete -c seamless-run -n '__seamless_run_verb status' -l json -d 'one JSON object for each service'
complete -c seamless-run -n '__seamless_run_verb status' -l watch -d 'show it again whenever something changes'
complete -c seamless-run -n '__seamless_run_verb status' -s q -l quiet -d 'the exit status tells'
complete -c seamless-run -n '__seamless_run_verb restart' -l no-wait -d 'only ask for it'
complete -c seamless-run -n '__seamless_run_verb restart' -l timeout -x -a "$__seamless_run_times" -d 'how long to wait for the verdict'
complete -c seamless-run -n '__seamless_run_verb stop' -l old -d 'only those that drain'
complete -c seamless-run -n '__seamless_run_verb notify' -a 'started prepared stopping reloading watchdog status' -d 'how this daemon is'
