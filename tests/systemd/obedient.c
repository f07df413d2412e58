/* A daemon that does what it is told by datagrams to the abstract socket $ORDERS-GENERATION, with libsystemd's own
 * functions, and says what came of it: `generation 2 is up: 47`, `daemon 47 …`. It needs no file, so that it obeys as
 * any user and in any sandbox.
 *
 *     say TEXT              sd_notify(3)
 *     store NAME CONTENT    a file with this content goes to the file descriptor store
 *     hang NAME WORDS       a pipe that nobody writes to any more goes there, with these words more
 *     barrier WORD          sd_notify_barrier(3)
 *     ping                  WATCHDOG=1 four times in each watchdog period, from now on
 *     deaf                  no more of that, and whoever connects is not heard
 *     file                  its PID goes to $SEAMLESS_PID_FILE, the Go library's way to say that it serves
 *     exit N
 *
 * In its environment: FIRST=TEXT, what it says when it is up, as `say` does; PINGS=1, as `ping`; LINGER=1, TERM only
 * makes it deaf (`exit` ends it). On HUP it says RELOADING=1, and READY=1 when it is told to; on USR2 that it is
 * prepared. It answers whoever connects to a socket that it was given. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

enum { SIGNALS, ORDERS, TIMER, SOCKETS, MOST_SOCKETS = 16, ALL = SOCKETS + MOST_SOCKETS };

static struct pollfd waits[ALL];
static uint64_t watchdog;

/* One write for a line: the log has several writers. */
__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
    char line[1024];
    int head = snprintf(line, sizeof line, "daemon %d ", (int)getpid());
    va_list values;
    va_start(values, format);
    int size = head + vsnprintf(line + head, sizeof line - (size_t)head - 1, format, values);
    va_end(values);
    line[size] = '\n';
    if (write(1, line, (size_t)size + 1) < 0)
        _exit(9);
}

static void say(const char *text)
{
    int said = sd_notify(0, text);
    /* The log is of lines. */
    char shown[512];
    snprintf(shown, sizeof shown, "%s", text);
    for (char *end = shown; (end = strchr(end, '\n')); )
        *end = ' ';
    tell("said %s: %d", shown, said);
}

static void store(const char *name, const char *content)
{
    int file = memfd_create(name, MFD_CLOEXEC);
    if (file < 0 || write(file, content, strlen(content)) < 0) {
        tell("cannot store: %s", strerror(errno));
        return;
    }
    char text[256];
    snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s", name);
    int said = sd_pid_notify_with_fds(0, 0, text, &file, 1);
    tell("stored %s: %d", name, said);
    close(file);
}

static void store_hung_up_pipe(const char *name, const char *words)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        tell("no pipe: %s", strerror(errno));
        return;
    }
    close(ends[1]);
    char text[256];
    snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s\n%s", name, words);
    int said = sd_pid_notify_with_fds(0, 0, text, ends, 1);
    tell("stored %s: %d", name, said);
    close(ends[0]);
}

static void ping_from_now_on(int pings)
{
    uint64_t period = pings ? watchdog / 4 : 0;
    struct timespec every = {.tv_sec = (time_t)(period / 1000000), .tv_nsec = (long)(period % 1000000) * 1000};
    struct itimerspec times = {.it_interval = every, .it_value = every};
    if (timerfd_settime(waits[TIMER].fd, 0, &times, NULL) < 0)
        tell("timerfd_settime: %s", strerror(errno));
}

static void hear_nobody(void)
{
    for (int i = SOCKETS; i < ALL; i++)
        waits[i].fd = -1;
}

static void write_pid_file(void)
{
    FILE *file = fopen(getenv("SEAMLESS_PID_FILE"), "w");
    if (!file) {
        tell("no PID file: %s", strerror(errno));
        return;
    }
    fprintf(file, "%d\n", (int)getpid());
    fclose(file);
}

static void obey(char *order)
{
    char *rest = strchr(order, ' ');
    if (rest)
        *rest++ = 0;
    else
        rest = order + strlen(order);
    if (!strcmp(order, "say")) {
        say(rest);
    } else if (!strcmp(order, "store") || !strcmp(order, "hang")) {
        char *more = strchr(rest, ' ');
        if (more)
            *more++ = 0;
        else
            more = rest + strlen(rest);
        if (*order == 's')
            store(rest, more);
        else
            store_hung_up_pipe(rest, more);
    } else if (!strcmp(order, "barrier")) {
        int passed = sd_notify_barrier(0, 30 * 1000000);
        tell("barrier %s: %d", rest, passed);
    } else if (!strcmp(order, "ping")) {
        ping_from_now_on(1);
    } else if (!strcmp(order, "deaf")) {
        ping_from_now_on(0);
        hear_nobody();
        tell("is deaf");
    } else if (!strcmp(order, "file")) {
        write_pid_file();
    } else if (!strcmp(order, "exit")) {
        tell("exits");
        exit(atoi(rest));
    } else {
        tell("does not understand %s", order);
    }
}

static int orders(const char *generation)
{
    const char *place = getenv("ORDERS");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int size = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "%s-%s", place, generation);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size);
    int socket_of_orders = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(socket_of_orders, (struct sockaddr *)&address, length) < 0) {
        tell("no orders at %s: %s", address.sun_path + 1, strerror(errno));
        exit(1);
    }
    return socket_of_orders;
}

/* A listening socket is waited for; of a file, what is in it is told. */
static void take(int descriptor, const char *name, struct pollfd *wait)
{
    struct stat found;
    if (fstat(descriptor, &found) < 0) {
        tell("has %s at %d: %s", name, descriptor, strerror(errno));
    } else if (S_ISSOCK(found.st_mode)) {
        tell("has %s at %d, a socket", name, descriptor);
        /* Another generation may be faster. */
        fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
        *wait = (struct pollfd){.fd = descriptor, .events = POLLIN};
    } else {
        char content[256] = "";
        if (pread(descriptor, content, sizeof content - 1, 0) < 0)
            tell("pread: %s", strerror(errno));
        tell("has %s at %d: %s", name, descriptor, content);
    }
}

static void answer(int listening, const char *generation)
{
    int connection = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0)
        return;
    dprintf(connection, "%d %s\n", (int)getpid(), generation);
    close(connection);
}

static int got(int signals)
{
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof info) != sizeof info)
        return 0;
    tell("got %s", sigabbrev_np((int)info.ssi_signo));
    if (info.ssi_signo == SIGTERM) {
        hear_nobody();
        return !getenv("LINGER");
    }
    if (info.ssi_signo == SIGUSR2)
        say("X_SEAMLESS=prepared");
    if (info.ssi_signo == SIGHUP) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        char text[128];
        snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu",
                 (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
        say(text);
    }
    return 0;
}

int main(void)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGHUP);
    sigaddset(&wanted, SIGUSR2);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    signal(SIGPIPE, SIG_IGN);
    const char *generation = getenv("SEAMLESS_GENERATION");
    if (!generation)
        generation = "0";

    waits[SIGNALS] = (struct pollfd){.fd = signalfd(-1, &wanted, SFD_CLOEXEC), .events = POLLIN};
    waits[ORDERS] = (struct pollfd){.fd = orders(generation), .events = POLLIN};
    waits[TIMER] = (struct pollfd){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), .events = POLLIN};
    hear_nobody();
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < count && i < MOST_SOCKETS; i++)
        take(SD_LISTEN_FDS_START + i, names[i], &waits[SOCKETS + i]);
    if (sd_watchdog_enabled(0, &watchdog) > 0)
        tell("has a watchdog of %llu us", (unsigned long long)watchdog);
    if (getenv("PINGS"))
        ping_from_now_on(1);

    char up[64];
    int size = snprintf(up, sizeof up, "generation %s is up: %d\n", generation, (int)getpid());
    if (write(1, up, (size_t)size) < 0)
        return 9;
    const char *first = getenv("FIRST");
    if (first && *first)
        say(first);

    for (;;) {
        if (poll(waits, ALL, -1) < 0 && errno != EINTR)
            return 1;
        if (waits[ORDERS].revents) {
            char order[2048];
            ssize_t length = recv(waits[ORDERS].fd, order, sizeof order - 1, 0);
            if (length > 0) {
                order[length] = 0;
                obey(order);
            }
        }
        if (waits[TIMER].revents) {
            uint64_t periods;
            if (read(waits[TIMER].fd, &periods, sizeof periods) > 0)
                tell("pings: %d", sd_notify(0, "WATCHDOG=1"));
        }
        if (waits[SIGNALS].revents && got(waits[SIGNALS].fd))
            return 0;
        for (int i = SOCKETS; i < ALL; i++) {
            if (waits[i].fd >= 0 && waits[i].revents)
                answer(waits[i].fd, generation);
        }
    }
}
