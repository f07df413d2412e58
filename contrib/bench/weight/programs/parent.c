// The smallest parent that does what a launcher is for: it starts a command, passes signals on, waits for its end, and
// ends as it did. Nothing that is idle beside a service can be lighter than this.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    sigset_t all, before;
    int number, status;

    if (argc < 2)
        return 125;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t child = fork();
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &before, 0);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    for (;;) {
        if (sigwait(&all, &number) != 0)
            continue;
        if (number != SIGCHLD)
            kill(child, number);
        else if (waitpid(child, &status, WNOHANG) == child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}
