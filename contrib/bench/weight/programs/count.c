// Counts the instructions that a command executes, with everything that it starts, until it executes PROGRAM.
//
//     count PROGRAM COMMAND [ARG]...
//
// It steps through them one at a time: slow, but any machine can do it, and the number is the same each time. (A
// virtual one mostly has no counters for perf.) Instructions of the kernel are not in it.
#define _GNU_SOURCE
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static int executes(pid_t process, const char *program)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%d/exe", process);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 0 && (size_t)length == strlen(program) && !memcmp(path, program, length);
}

int main(int argc, char **argv)
{
    long long count = 0;
    int status;

    if (argc < 3)
        return 2;
    // What hangs shall not stay.
    alarm(50);
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    if (waitpid(child, &status, 0) != child)
        return 1;
    long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
                   PTRACE_O_EXITKILL;
    ptrace(PTRACE_SETOPTIONS, child, 0, options);
    // To its exec at full speed.
    ptrace(PTRACE_CONT, child, 0, 0);
    for (;;) {
        pid_t process = waitpid(-1, &status, __WALL);
        if (process < 0)
            return 1;
        if (!WIFSTOPPED(status))
            continue;
        int signal = WSTOPSIG(status);
        long deliver = 0;
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8)) {
            if (executes(process, argv[1])) {
                // What is traced ends with us.
                printf("%lld\n", count);
                return 0;
            }
        } else if (signal == SIGTRAP) {
            count += status >> 16 == 0;
        } else if (signal != SIGSTOP) {
            deliver = signal;
        }
        ptrace(PTRACE_SINGLESTEP, process, 0, deliver);
    }
}
