/* A daemon of socket activation, by sd_listen_fds_with_names(3) and sd_notify(3): it says what it was given, serves
 * all of it, and on TERM finishes what it has accepted. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static const char *generation;

static void answer(int connection, const char *name)
{
    struct timeval patience = {.tv_sec = 10};
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char request[4096];
    size_t length = 0;
    while (length < sizeof request - 1) {
        ssize_t more = read(connection, request + length, sizeof request - 1 - length);
        if (more <= 0)
            return;
        length += (size_t)more;
        request[length] = 0;
        if (strstr(request, "\r\n\r\n"))
            break;
    }
    char body[256], whole[512];
    int size = snprintf(body, sizeof body, "pid %d generation %s socket %s\n", (int)getpid(), generation, name);
    int all = snprintf(whole, sizeof whole, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", size, body);
    if (write(connection, whole, (size_t)all) != all)
        perror("write");
}

int main(void)
{
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    generation = getenv("SEAMLESS_GENERATION");

    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    if (count < 0) {
        fprintf(stderr, "sd_listen_fds_with_names: %s\n", strerror(-count));
        return 1;
    }
    struct pollfd waits[1 + 16] = {{.fd = signalfd(-1, &term, SFD_CLOEXEC), .events = POLLIN}};
    for (int i = 0; i < count && i < 16; i++) {
        int descriptor = SD_LISTEN_FDS_START + i;
        const char *family = sd_is_socket(descriptor, AF_UNIX, SOCK_STREAM, 1) > 0 ? "unix"
                             : sd_is_socket(descriptor, AF_INET, SOCK_STREAM, 1) > 0 ? "inet" : "neither";
        printf("generation %s has %s %s at %d of %d\n", generation, names[i], family, descriptor, count);
        /* Another generation may be faster. */
        fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
        waits[1 + i] = (struct pollfd){.fd = descriptor, .events = POLLIN};
    }
    sd_notify(1, "READY=1");

    for (;;) {
        if (poll(waits, 1 + (nfds_t)count, -1) < 0 && errno != EINTR)
            return 1;
        if (waits[0].revents)
            return 0;
        for (int i = 0; i < count; i++) {
            if (!waits[1 + i].revents)
                continue;
            int connection = accept4(waits[1 + i].fd, NULL, NULL, SOCK_CLOEXEC);
            if (connection < 0)
                continue;
            answer(connection, names[i]);
            close(connection);
        }
    }
}
