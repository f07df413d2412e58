// The least that a launcher can do for a restart without a gap: it starts the daemon in a session of its own; on TERM it
// tells it to prepare and leaves. No files, no record, no successor that is waited for, nobody who looks after the
// daemon: what ours costs beside it is what all of that costs.
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
    pid_t daemon = fork();
    if (daemon == 0) {
        setsid();
        sigprocmask(SIG_SETMASK, &before, 0);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    for (;;) {
        if (sigwait(&all, &number) != 0)
            continue;
        if (number == SIGTERM) {
            kill(daemon, SIGUSR2);
            return 0;
        }
        if (number != SIGCHLD)
            kill(daemon, number);
        else if (waitpid(daemon, &status, WNOHANG) == daemon)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}
