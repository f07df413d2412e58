/* An HTTP server in C that takes part in seamless restarts. The C library is all that it needs.
 *
 *     cc -O2 -Wall -Wextra -o daemon daemon.c
 *     mkdir -p /run/app; seamless-run --pid-file /run/app/app.pid --listen http=127.0.0.1:8080 -- ./daemon
 *     curl 'http://127.0.0.1:8080/?delay=5000ms'
 *
 * Restart it (under runit, say: `sv restart app`) while curl waits: curl gets its answer, and whoever comes next is answered by the new generation.
 *
 * Each connection has a process of its own. It runs without seamless-run too, on a listening socket that is its
 * descriptor 3: then nobody is told anything, and TERM or Ctrl-C ends it in the same way. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LISTENER = 3 }; /* the first --listen; the next ones are 4, 5, … */

/* Tells the keeper, our parent, and waits until that has taken effect. An error is never a reason to stop serving. */
static void say(const char *word)
{
    const char *address = getenv("NOTIFY_SOCKET");
    struct sockaddr_un keeper = {.sun_family = AF_UNIX};
    if (!getenv("SEAMLESS") || !address || strlen(address) > sizeof keeper.sun_path)
        return;
    size_t length = strlen(address);
    memcpy(keeper.sun_path, address, length);
    keeper.sun_path[0] = 0; /* which "@" stands for */

    /* The answer comes on one end of a pair, of which the keeper gets the other one. */
    int pair[2], outgoing = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (outgoing < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return perror("daemon: socket");
    char line[64], answer[4096];
    struct iovec text = {line, (size_t)snprintf(line, sizeof line, "X_SEAMLESS=%s", word)};
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } passed = {.header = {
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&passed.header), &pair[1], sizeof(int));
    struct msghdr message = {
        .msg_name = &keeper, .msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length),
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = &passed, .msg_controllen = sizeof passed};
    struct timeval patience = {.tv_sec = 10};
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t got = sendmsg(outgoing, &message, MSG_NOSIGNAL);
    close(pair[1]); /* ours ends when the keeper's copy does */
    if (got >= 0)
        got = recv(pair[0], answer, sizeof answer, 0);
    /* "ok", "error=" and why, or nothing: we were not believed. */
    if (got < 0)
        fprintf(stderr, "daemon: %s: %s; serving on\n", word, strerror(errno));
    else if (got != 2 || memcmp(answer, "ok", 2))
        fprintf(stderr, "daemon: %s: %.*s; serving on\n", word, got ? (int)got : 12, got ? answer : "not believed");
    close(pair[0]);
    close(outgoing);
}

static void answer(int connection, int pid)
{
    char request[4096] = "", body[64];
    struct timeval patience = {.tv_sec = 5}; /* for a client that asks nothing: a drain would wait for it */
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (size_t length = 0; !strstr(request, "\r\n\r\n");) {
        ssize_t more = read(connection, request + length, sizeof request - 1 - length);
        if (more <= 0)
            return;
        request[length += (size_t)more] = 0;
    }
    const char *delay = strstr(request, "?delay="), *generation = getenv("SEAMLESS_GENERATION");
    if (delay)
        poll(NULL, 0, atoi(delay + strlen("?delay=")));
    int length = snprintf(body, sizeof body, "pid %d generation %s\n", pid, generation ? generation : "-");
    dprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", length, body);
}

static volatile sig_atomic_t prepare, drain;

static void on_signal(int number)
{
    if (number == SIGUSR2)
        prepare = 1;
    else
        drain = 1;
}

int main(void)
{
    /* First of all: USR2 kills a process that does not listen to it. The signals are let in by ppoll(2) alone, so none
     * can fall between a look at what it has set and the next wait. */
    sigset_t before, ours;
    sigemptyset(&ours);
    struct sigaction action = {.sa_handler = on_signal};
    for (int i = 0, numbers[] = {SIGUSR2, SIGTERM, SIGINT}; i < 3; i++) {
        sigaddset(&ours, numbers[i]);
        sigaction(numbers[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &ours, &before);
    signal(SIGCHLD, SIG_IGN); /* children leave no zombies */
    /* All generations accept from one queue. Another one may be faster, and `accept` must not wait then. */
    if (fcntl(LISTENER, F_SETFL, fcntl(LISTENER, F_GETFL) | O_NONBLOCK) < 0)
        return perror("daemon: descriptor 3"), 1;

    say("started"); /* all that can fail has been done: now the predecessor is told to drain */
    for (int pid = getpid(); !drain;) {
        ppoll(&(struct pollfd){.fd = LISTENER, .events = POLLIN}, 1, NULL, &before);
        if (prepare)
            say("prepared"); /* a successor will come: go on serving */
        prepare = 0;
        int connection = drain ? -1 : accept4(LISTENER, NULL, NULL, SOCK_CLOEXEC);
        if (connection >= 0 && fork() == 0) {
            close(LISTENER);
            answer(connection, pid);
            return 0;
        }
        if (connection >= 0)
            close(connection);
    }
    /* TERM: the successor serves, or this is a stop. Who waits in the queue is the successor's; whoever was let in is
     * answered first. Where CHLD is ignored, wait(2) returns when the last child has gone. */
    close(LISTENER);
    while (wait(NULL) >= 0 || errno == EINTR)
        ;
    return 0;
}
