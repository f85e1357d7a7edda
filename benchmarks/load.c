/* One client for every server: connect, send the trigger, expect ECONNRESET from recv. Counts whatever else happens.
 *
 *     load PORT COUNT [CONNECTIONS [TRIGGER]]        prints one line of JSON
 *
 * The trigger is one byte; a server that only speaks HTTP is sent a request.
 * CONNECTIONS (16) are under way at any time, on 127.0.0.1, until COUNT have ended. One thread, one epoll.
 * A reset leaves no TIME-WAIT and frees its port at once, so the ports do not run out; a connection that ends in any
 * other way is closed with linger 0 for the same reason. Nothing for 10 seconds: what is still open counts as "hung".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KINDS = 64, EVENTS = 256, PATIENCE_MS = 10000, MOST_FDS = 65536 };

static struct { char what[48]; long times; } kinds[KINDS];
static char sent[MOST_FDS]; /* by descriptor: the trigger is on its way */
static struct sockaddr_in server = {.sin_family = AF_INET};
static const char *trigger = "x";
static size_t trigger_size;
static int epoll;
static long started, ended, count, resets;

static void die(const char *call)
{
    perror(call);
    exit(1);
}

/* A connection ended, at this call, with this errno or (0) this word. */
static void end(int fd, const char *call, int error, const char *word)
{
    ended++;
    if (error == ECONNRESET && !strcmp(call, "recv")) {
        resets++;
    } else {
        char what[48];
        snprintf(what, sizeof what, "%s %s", call, error ? strerrorname_np(error) : word);
        int i = 0;
        while (i < KINDS - 1 && kinds[i].times && strcmp(kinds[i].what, what))
            i++;
        strcpy(kinds[i].what, what);
        kinds[i].times++;
        struct linger now = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    sent[fd] = 0;
    close(fd); /* takes it out of the epoll too */
}

/* Returns 0 when the connection has ended, 1 when it is under way. */
static int send_trigger(int fd)
{
    /* An empty send buffer takes a trigger whole. */
    if (send(fd, trigger, trigger_size, MSG_NOSIGNAL) >= 0)
        return sent[fd] = 1;
    if (errno == EAGAIN)
        return 1; /* not connected yet */
    end(fd, "send", errno, NULL);
    return 0;
}

static void watch(int fd, int how)
{
    struct epoll_event event = {.events = sent[fd] ? EPOLLIN : EPOLLIN | EPOLLOUT, .data.fd = fd};
    if (epoll_ctl(epoll, how, fd, &event) < 0)
        die("epoll_ctl");
}

static void start(void)
{
    while (started < count) {
        started++;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            die("socket");
        if (fd >= MOST_FDS) {
            fprintf(stderr, "load: descriptor %d is beyond %d\n", fd, MOST_FDS);
            exit(1);
        }
        if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS) {
            end(fd, "connect", errno, NULL);
            continue;
        }
        /* On loopback the handshake is over when connect() returns, so the trigger can go at once. */
        if (send_trigger(fd)) {
            watch(fd, EPOLL_CTL_ADD);
            return;
        }
    }
}

/* Something happened on a connection. Returns 1 when it has ended. */
static int ready(int fd, unsigned events)
{
    if (!sent[fd]) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            end(fd, "connect", error, NULL);
            return 1;
        }
        if (!(events & EPOLLOUT))
            return 0;
        if (!send_trigger(fd))
            return 1;
        watch(fd, EPOLL_CTL_MOD);
        return 0;
    }
    char bytes[4096];
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN)
        return 0;
    end(fd, "recv", got < 0 ? errno : 0, got ? "data" : "EOF");
    return 1;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: load PORT COUNT [CONNECTIONS [TRIGGER]]\n");
        return 2;
    }
    server.sin_port = htons(atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    count = atol(argv[2]);
    int connections = argc > 3 ? atoi(argv[3]) : 16;
    if (argc > 4)
        trigger = argv[4];
    trigger_size = strlen(trigger);
    if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        die("epoll_create1");

    double began = now();
    for (int i = 0; i < connections; i++)
        start();
    while (ended < count) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, PATIENCE_MS);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        if (n == 0)
            break; /* what is still open has hung */
        for (int i = 0; i < n; i++)
            if (ready(events[i].data.fd, events[i].events))
                start();
    }
    double seconds = now() - began;

    printf("{\"connections\": %ld, \"seconds\": %.6f, \"resets\": %ld, \"per_second\": %.1f, \"wrong\": {",
           ended, seconds, resets, resets / seconds);
    const char *comma = "";
    for (int i = 0; i < KINDS && kinds[i].times; i++, comma = ", ")
        printf("%s\"%s\": %ld", comma, kinds[i].what, kinds[i].times);
    if (started > ended)
        printf("%s\"hung\": %ld", comma, started - ended);
    printf("}}\n");
    return 0;
}
