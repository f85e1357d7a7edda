/* Both ends of what benchmarks/proxy.py measures: a service, and a client that comes through a proxy, or not.
 *
 *     proxied serve                               prints its port; ends when its standard input does
 *     proxied up|down PORT MEGABYTES              one connection in bulk: prints seconds
 *     proxied pingpong PORT CONNECTIONS SECONDS   100 bytes to and fro: prints round trips per second, p50 and p99 in us,
 *                                               and their count
 *     proxied churn PORT CONNECTIONS SECONDS      connect, ask, be answered, close: prints connections per second
 *
 * The first byte of a connection says what the service is to do: U reads all and answers the count's last byte, D sends as many
 * MiB as the 8 bytes after it say, and anything else is said back. One thread, one epoll each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 65536, EVENTS = 256, BLOCK = 1 << 18, MESSAGE = 100, SAMPLES = 1 << 22 };

static char block[BLOCK];
static char kind[MOST];
static uint64_t left[MOST];
static float *samples;
static double begun[MOST];
static char met[MOST];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void watch(int poll, int how, int fd, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poll, how, fd, &event) < 0)
        die("epoll_ctl");
}

static void no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void serve(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    if (bind(door, (void *)&here, size) < 0 || listen(door, 4096) < 0 || getsockname(door, (void *)&here, &size) < 0)
        die("listen");
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    watch(poll, EPOLL_CTL_ADD, door, EPOLLIN);
    watch(poll, EPOLL_CTL_ADD, 0, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == 0)
                exit(0);
            if (fd == door) {
                int one;
                while ((one = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (one >= MOST)
                        exit(2);
                    kind[one] = 0;
                    no_delay(one);
                    watch(poll, EPOLL_CTL_ADD, one, EPOLLIN);
                }
                continue;
            }
            if (kind[fd] == 'D') {
                ssize_t sent = send(fd, block, left[fd] < BLOCK ? left[fd] : BLOCK, MSG_NOSIGNAL);
                if (sent < 0 && errno == EAGAIN)
                    continue;
                if (sent < 0 || !(left[fd] -= sent))
                    close(fd);
                continue;
            }
            ssize_t got = recv(fd, block, BLOCK, 0);
            if (got < 0 && errno == EAGAIN)
                continue;
            if (got <= 0) {
                if (kind[fd] == 'U' && got == 0)
                    send(fd, "!", 1, MSG_NOSIGNAL);
                close(fd);
                continue;
            }
            if (!kind[fd]) {
                kind[fd] = block[0] == 'U' || block[0] == 'D' ? block[0] : 'E';
                if (kind[fd] == 'D') {
                    memcpy(&left[fd], block + 1, 8);
                    watch(poll, EPOLL_CTL_MOD, fd, EPOLLOUT);
                }
            }
            if (kind[fd] == 'E')
                send(fd, block, got, MSG_NOSIGNAL);
        }
    }
}

static int connected(int port, int flags)
{
    struct sockaddr_in there = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (fd < 0 || fd >= MOST)
        die("socket");
    no_delay(fd);
    if (connect(fd, (void *)&there, sizeof there) < 0 && errno != EINPROGRESS)
        die("connect");
    return fd;
}

static void bulk(int port, int up, uint64_t size)
{
    int fd = connected(port, 0);
    double start = now();
    if (up) {
        block[0] = 'U';
        for (uint64_t sent = 0; sent < size;) {
            ssize_t one = send(fd, block, size - sent < BLOCK ? size - sent : BLOCK, MSG_NOSIGNAL);
            if (one < 0)
                die("send");
            sent += one;
        }
        shutdown(fd, SHUT_WR);
        if (recv(fd, block, 1, 0) != 1)
            die("recv");
    } else {
        char ask[9] = "D";
        memcpy(ask + 1, &size, 8);
        if (send(fd, ask, 9, 0) != 9)
            die("send");
        uint64_t all = 0;
        ssize_t got;
        while ((got = recv(fd, block, BLOCK, 0)) > 0)
            all += got;
        if (all != size)
            die("short");
    }
    printf("%.6f\n", now() - start);
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void trips(int port, int connections, double seconds, int churn)
{
    int poll = epoll_create1(0);
    samples = malloc(SAMPLES * sizeof *samples);
    char message[MESSAGE];
    memset(message, 'x', MESSAGE);
    for (int i = 0; i < connections; i++) {
        int fd = connected(port, churn ? SOCK_NONBLOCK : 0);
        begun[fd] = now();
        left[fd] = MESSAGE;
        watch(poll, EPOLL_CTL_ADD, fd, churn ? EPOLLOUT : EPOLLIN);
        if (!churn && send(fd, message, MESSAGE, 0) != MESSAGE)
            die("send");
    }
    double start = now(), t = start;
    long done = 0, kept = 0;
    while ((t = now()) - start < seconds) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, 10000);
        if (count <= 0) {
            fprintf(stderr, "nothing for ten seconds\n");
            exit(1);
        }
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (events[i].events & EPOLLOUT) {
                if (send(fd, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
                    die("send");
                watch(poll, EPOLL_CTL_MOD, fd, EPOLLIN);
                continue;
            }
            ssize_t got = recv(fd, block, MESSAGE, 0);
            if (got <= 0)
                die("recv");
            if (left[fd] -= got)
                continue;
            double end = now();
            /* Where connections stay, the first round trip of each has waited until a proxy had connected all before it. */
            if (kept < SAMPLES && (churn || met[fd]))
                samples[kept++] = (end - begun[fd]) * 1e6;
            met[fd] = 1;
            done++;
            if (churn) {
                struct linger now_ = {1, 0}; /* no TIME-WAIT: the ports would run out */
                if (churn > 1)
                    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_, sizeof now_);
                close(fd);
                fd = connected(port, SOCK_NONBLOCK);
                watch(poll, EPOLL_CTL_ADD, fd, EPOLLOUT);
                begun[fd] = end;
                left[fd] = MESSAGE;
                continue;
            }
            begun[fd] = end;
            left[fd] = MESSAGE;
            if (send(fd, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
                die("send");
        }
    }
    if (!kept) {
        fprintf(stderr, "no round trip in %g s\n", seconds);
        exit(1);
    }
    qsort(samples, kept, sizeof *samples, by_size);
    printf("%.1f %.2f %.2f %ld\n", done / (t - start), samples[kept / 2], samples[kept * 99 / 100], done);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "serve"))
        serve();
    if (argc == 4)
        bulk(atoi(argv[2]), argv[1][0] == 'u', strtoull(argv[3], NULL, 10) << 20);
    if (argc == 5)
        trips(atoi(argv[2]), atoi(argv[3]), atof(argv[4]), argv[1][0] == 'c');
    return 0;
}
