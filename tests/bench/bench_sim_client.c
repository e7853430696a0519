/* Load generator: N connections, each reading registers again and again for some seconds.
 *
 * usage: bench_sim_client SECONDS UNIT FUNCTION ADDRESS COUNT PORT...
 * prints: transactions, seconds, errors
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct link {
    int fd;
    unsigned short transaction;
    size_t have;
    unsigned char reply[300];
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ask(struct link *l, int unit, int function, int address, int count) {
    unsigned char q[12] = {0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0};
    l->transaction++;
    q[0] = (unsigned char)(l->transaction >> 8);
    q[1] = (unsigned char)l->transaction;
    q[6] = (unsigned char)unit;
    q[7] = (unsigned char)function;
    q[8] = (unsigned char)(address >> 8);
    q[9] = (unsigned char)address;
    q[10] = (unsigned char)(count >> 8);
    q[11] = (unsigned char)count;
    l->have = 0;
    return write(l->fd, q, sizeof q) == sizeof q ? 0 : -1;
}

int main(int argc, char **argv) {
    if (argc < 7) return 2;
    double seconds = atof(argv[1]);
    int unit = atoi(argv[2]), function = atoi(argv[3]), address = atoi(argv[4]);
    int count = atoi(argv[5]), n = argc - 6;
    size_t expected = 9 + 2 * (size_t)count;
    struct link *links = calloc((size_t)n, sizeof *links);
    struct pollfd *polls = calloc((size_t)n, sizeof *polls);
    for (int i = 0; i < n; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[6 + i]))};
        int one = 1;
        inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
        links[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(links[i].fd, (struct sockaddr *)&to, sizeof to) != 0) return 4;
        setsockopt(links[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        polls[i].fd = links[i].fd;
        polls[i].events = POLLIN;
        if (ask(&links[i], unit, function, address, count) != 0) return 4;
    }
    long done = 0, errors = 0;
    double began = now(), end = began + seconds;
    while (now() < end) {
        if (poll(polls, (nfds_t)n, 100) <= 0) continue;
        for (int i = 0; i < n; i++) {
            struct link *l = &links[i];
            if (!(polls[i].revents & POLLIN)) continue;
            ssize_t got = read(l->fd, l->reply + l->have, sizeof l->reply - l->have);
            if (got <= 0) return 4;
            l->have += (size_t)got;
            if (l->have < 9 || l->have < 6 + (size_t)(l->reply[4] << 8 | l->reply[5])) continue;
            if (l->have == expected && l->reply[0] == (unsigned char)(l->transaction >> 8) &&
                l->reply[1] == (unsigned char)l->transaction && l->reply[7] == function)
                done++;
            else
                errors++;
            if (ask(l, unit, function, address, count) != 0) return 4;
        }
    }
    printf("%ld %f %ld\n", done, now() - began, errors);
    return 0;
}
