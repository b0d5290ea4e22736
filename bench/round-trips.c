/*
 * Round trips of one byte over TCP, as a database client and its server have them.
 *
 *   round-trips serve PORT                  answers every byte on one connection after the other; prints `ready`
 *   round-trips ask ADDRESS PORT SECONDS    prints how many there were, and the mean, p50 and p99 in nanoseconds
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_MAX 4000000

static void die(const char *what) {
  fprintf(stderr, "round-trips: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int tcp_socket(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  if (fd < 0) die("socket");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  return fd;
}

static void serve(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = INADDR_ANY};
  int listener = tcp_socket(), one = 1;
  if (bind(listener, (void *)&address, sizeof address) < 0) die("bind");
  if (listen(listener, 8) < 0) die("listen");
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    char byte;
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1) {}
    close(fd);
  }
}

static int by_size(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static void ask(const char *host, int port, int seconds) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  uint32_t *samples = malloc(SAMPLES_MAX * sizeof *samples);
  size_t count = 0;
  uint64_t total = 0, until;
  char byte = 'x';
  int fd = tcp_socket();
  if (!samples) die("malloc");
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("address");
  if (connect(fd, (void *)&address, sizeof address) < 0) die("connect");
  until = now() + (uint64_t)seconds * 1000000000u;
  for (uint64_t at = now(); at < until && count < SAMPLES_MAX;) {
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) die("round trip");
    uint64_t then = now();
    samples[count++] = then - at;
    total += then - at;
    at = then;
  }
  if (!count) die("no round trip");
  qsort(samples, count, sizeof *samples, by_size);
  printf("%zu %llu %u %u\n", count, (unsigned long long)(total / count), samples[count / 2], samples[count - 1 - count / 100]);
}

int main(int argc, char **argv) {
  if (argc == 3 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]));
  else if (argc == 5 && !strcmp(argv[1], "ask")) ask(argv[2], atoi(argv[3]), atoi(argv[4]));
  else {
    fprintf(stderr, "usage: round-trips serve PORT | ask ADDRESS PORT SECONDS\n");
    return 1;
  }
  return 0;
}
