/* Programs that do one thing or another with a signal. They say `up PID`, and `got NAME` for each signal that they are
 * told of; TERM ends them as it ends everybody.
 *
 *     program SIGNAL WHAT */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static sigset_t one;

static void say_got(int number)
{
    char line[32];
    int length = snprintf(line, sizeof line, "got %s\n", sigabbrev_np(number));
    if (write(1, line, (size_t)length) != length)
        _exit(9);
}

static void up(void)
{
    printf("up %d\n", (int)getpid());
    fflush(stdout);
}

/* Asleep, with whatever mask this thread has. */
static void *sleeps(void *unused)
{
    for (;;)
        poll(NULL, 0, -1);
    return unused;
}

static void *waits(void *unused)
{
    for (int number; sigwait(&one, &number) == 0;)
        say_got(number);
    return unused;
}

static void *unblocks_and_sleeps(void *unused)
{
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    return sleeps(unused);
}

static void *blocks_and_waits(void *unused)
{
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    return waits(unused);
}

static void *blocks_and_sleeps(void *unused)
{
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    return sleeps(unused);
}

static void with_thread(void *(*run)(void *))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL) != 0)
        abort();
}

int main(int count, char **words)
{
    if (count != 3)
        return 2;
    int number = 0;
    for (int candidate = 1; candidate < 32; candidate++)
        if (strcmp(sigabbrev_np(candidate), words[1]) == 0)
            number = candidate;
    const char *what = words[2];
    sigemptyset(&one);
    sigaddset(&one, number);

    if (strcmp(what, "dies") == 0) {
        signal(number, SIG_DFL);
    } else if (strcmp(what, "ignores") == 0) {
        signal(number, SIG_IGN);
    } else if (strcmp(what, "catches") == 0) {
        signal(number, say_got);
    } else if (strcmp(what, "blocks") == 0) {
        blocks_and_sleeps((up(), NULL));
    } else if (strcmp(what, "sigwait") == 0) {
        pthread_sigmask(SIG_BLOCK, &one, NULL);
        up();
        waits(NULL);
    } else if (strcmp(what, "signalfd") == 0) {
        pthread_sigmask(SIG_BLOCK, &one, NULL);
        int descriptor = signalfd(-1, &one, SFD_CLOEXEC);
        up();
        for (struct signalfd_siginfo got; read(descriptor, &got, sizeof got) > 0;)
            say_got((int)got.ssi_signo);
    } else if (strcmp(what, "busy-signalfd") == 0) {
        /* Never asleep. */
        pthread_sigmask(SIG_BLOCK, &one, NULL);
        int descriptor = signalfd(-1, &one, SFD_CLOEXEC | SFD_NONBLOCK);
        up();
        for (struct signalfd_siginfo got;;)
            if (read(descriptor, &got, sizeof got) > 0)
                say_got((int)got.ssi_signo);
    } else if (strcmp(what, "thread-waits") == 0) {
        /* All threads hold it back, and one of them waits for it: as it is done. */
        pthread_sigmask(SIG_BLOCK, &one, NULL);
        with_thread(waits);
    } else if (strcmp(what, "only-thread-waits") == 0) {
        /* The main thread does not hold it back, and the kernel would give it to that one. */
        with_thread(blocks_and_waits);
    } else if (strcmp(what, "only-main-blocks") == 0) {
        /* Only the main thread holds it back: the other one would die of it, and all with it. */
        with_thread(unblocks_and_sleeps);
        pthread_sigmask(SIG_BLOCK, &one, NULL);
    } else if (strcmp(what, "main-gone") == 0) {
        /* The main thread has ended, and the process lives. */
        with_thread(sleeps);
        up();
        pthread_exit(NULL);
    } else if (strcmp(what, "late") == 0) {
        /* As it was started, until somebody writes to its stdin. */
        printf("starting %d\n", (int)getpid());
        fflush(stdout);
        getchar();
        signal(number, say_got);
    } else {
        return 2;
    }
    up();
    sleeps(NULL);
}
