// The smallest daemon that each measurement can do with. Its first word says what it does.
//
//     stamp            writes the time and ends: so it is seen when it was started
//     end              ends at once
//     pause            is idle
//     ready WORD       says that it is ready, with this word, and is idle
//     serve WORD       the same, and answers on the socket that it was given (LISTEN_FDS), with its PID
//     bind PORT        answers on a socket of its own (SO_REUSEPORT), and lets go of it on USR2
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int stamp(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char text[64];
    int length = snprintf(text, sizeof text, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
    return write(1, text, length) == length ? 0 : 1;
}

static void say(const char *word)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path || !*path || strlen(path) >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, strlen(path));
    if (*path == '@')
        to.sun_path[0] = 0;
    int socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sendto(socket_, word, strlen(word), 0, (struct sockaddr *)&to,
           offsetof(struct sockaddr_un, sun_path) + strlen(path));
    close(socket_);
}

static int bound(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 128) != 0)
        return -1;
    return listener;
}

static void answer(int listener)
{
    char text[32];
    int client = accept4(listener, 0, 0, SOCK_CLOEXEC);
    if (client < 0)
        return;
    int length = snprintf(text, sizeof text, "%d\n", getpid());
    if (write(client, text, length) < 0)
        exit(1);
    close(client);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    const char *word = argc > 2 ? argv[2] : "";
    sigset_t mask;

    if (!strcmp(what, "stamp"))
        return stamp();
    if (!strcmp(what, "end"))
        return 0;
    if (!strcmp(what, "pause"))
        for (;;)
            pause();

    // TERM: finish. USR2: prepare, which takes nothing but to say so.
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGUSR2);
    sigprocmask(SIG_BLOCK, &mask, 0);
    int is_bound = !strcmp(what, "bind");
    int listener = is_bound ? bound(atoi(word)) : !strcmp(what, "serve") ? 3 : -1;
    if (is_bound && listener < 0)
        return 1;
    // Another generation may take what both have seen.
    if (listener >= 0)
        fcntl(listener, F_SETFL, O_NONBLOCK);
    struct pollfd waits[] = {{.fd = signalfd(-1, &mask, SFD_CLOEXEC), .events = POLLIN},
                             {.fd = listener, .events = POLLIN}};
    if (!is_bound)
        say(word);
    for (;;) {
        if (poll(waits, 2, -1) < 0)
            continue;
        if (waits[0].revents) {
            struct signalfd_siginfo info;
            if (read(waits[0].fd, &info, sizeof info) != sizeof info || info.ssi_signo == SIGTERM || is_bound)
                return 0;
            say("X_SEAMLESS=prepared");
        }
        if (waits[1].revents)
            answer(listener);
    }
}
