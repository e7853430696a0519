/* A libmodbus server that counts, and a libmodbus client with one thread a connection.
 *
 *   modbus_rival server PORT THINK_US     prints "requests N cpu_us N" when told to end (SIGTERM)
 *   modbus_rival client PORT CONNECTIONS SECONDS COUNT   prints one JSON line
 */
#include <errno.h>
#include <modbus.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ending;

static void end(int number) { (void)number; ending = 1; }

static long cpu_us(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000L + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static int serve(int port, int think_us) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = end;
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", port);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 10000, 10000);
    for (int i = 0; i < 10000; i++) map->tab_registers[i] = map->tab_input_registers[i] = i;
    modbus_set_indication_timeout(ctx, 0, 200000);
    int listening = modbus_tcp_listen(ctx, 512), poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, ready[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, listening, &event);
    printf("ready\n");
    fflush(stdout);
    long requests = 0;
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    while (!ending) {
        int count = epoll_wait(poll, ready, 64, 200);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listening) {
                int wire = accept(listening, NULL, NULL);
                event.data.fd = wire;
                epoll_ctl(poll, EPOLL_CTL_ADD, wire, &event);
                continue;
            }
            modbus_set_socket(ctx, fd);
            int length = modbus_receive(ctx, query);
            if (length > 0) {
                if (think_us) usleep(think_us);
                modbus_reply(ctx, query, length, map);
                requests++;
            } else if (length == -1) {
                epoll_ctl(poll, EPOLL_CTL_DEL, fd, NULL);
                close(fd);
            }
        }
    }
    printf("{\"requests\": %ld, \"cpu_us\": %ld}\n", requests, cpu_us());
    return 0;
}

static int client_port, client_count;
static double client_end_s;

static void *run(void *unused) {
    (void)unused;
    long done = 0;
    uint16_t words[125];
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", client_port);
    modbus_set_response_timeout(ctx, 5, 0);
    if (modbus_connect(ctx)) return (void *)0;
    modbus_set_slave(ctx, 1);
    while (now_s() < client_end_s)
        if (modbus_read_registers(ctx, 0, client_count, words) == client_count) done++;
    modbus_close(ctx);
    modbus_free(ctx);
    return (void *)done;
}

static int ask(int port, int connections, double seconds, int count) {
    pthread_t threads[1024];
    client_port = port;
    client_count = count;
    double start = now_s();
    client_end_s = start + seconds;
    long cpu = cpu_us(), total = 0;
    for (int i = 0; i < connections; i++) pthread_create(&threads[i], NULL, run, NULL);
    for (int i = 0; i < connections; i++) {
        void *done;
        pthread_join(threads[i], &done);
        total += (long)done;
    }
    printf("{\"transactions\": %ld, \"wall_s\": %.6f, \"cpu_s\": %.6f}\n", total, now_s() - start,
           (cpu_us() - cpu) * 1e-6);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "server")) return serve(atoi(argv[2]), atoi(argv[3]));
    if (argc == 6 && !strcmp(argv[1], "client"))
        return ask(atoi(argv[2]), atoi(argv[3]), atof(argv[4]), atoi(argv[5]));
    fprintf(stderr, "modbus_rival server PORT THINK_US | client PORT CONNECTIONS SECONDS COUNT\n");
    return 2;
}
